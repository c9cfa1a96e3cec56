# SPDX-License-Identifier: Apache-2.0
"""Tables, pages and result files made of the runs."""
