# SPDX-License-Identifier: Apache-2.0
"""The node `console`: an operator's page in the browser for one or several trackers."""
