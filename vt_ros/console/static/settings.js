// SPDX-License-Identifier: Apache-2.0
// Parameters of a tracker as fields of a form, made from what the node itself says about them.

/**
 * Bring the fields up to date; one that is being edited is left alone.
 *
 * @param {HTMLElement} place
 * @param {string} tracker whose they are
 * @param {Array} parameters as in a report: name, kind, value, description, low, high, choices
 * @param {(name: string, value: any) => Promise<{ok: boolean, message: string}>} change
 */
export function showParameters(place, tracker, parameters, change) {
  const key = JSON.stringify([tracker, parameters.map(({ value, ...fixed }) => fixed)]);
  if (place.dataset.key !== key) {
    place.dataset.key = key;
    place.replaceChildren(...parameters.map((parameter) => rowOf(parameter, change)));
  }
  parameters.forEach((parameter, index) => {
    const row = place.children[index];
    row.parameter = parameter;
    const field = row.querySelector("input, select");
    if (field !== document.activeElement && !field.dataset.busy) setValue(field, parameter);
  });
}

function rowOf(parameter, change) {
  const { name, kind, description, low, high, choices } = parameter;
  const row = document.createElement("div");
  row.className = "parameter";
  const label = document.createElement("label");
  const id = `parameter-${name}`;
  label.htmlFor = id;
  label.textContent = name;
  const field = document.createElement(choices.length ? "select" : "input");
  field.id = id;
  field.append(...choices.map((choice) => new Option(choice, choice)));
  if (kind === "bool") field.type = "checkbox";
  else if (kind !== "text") {
    Object.assign(field, { type: "number", step: kind === "int" ? "1" : "any", inputMode: "decimal" });
    if (low !== null) Object.assign(field, { min: low, max: high });
  } else if (name === "model") {
    field.setAttribute("list", "models");
  }
  const note = document.createElement("p");
  note.className = "note";
  note.id = `${id}-note`;
  note.textContent = description;
  const answer = document.createElement("p");
  answer.className = "answer";
  answer.setAttribute("role", "status");
  field.setAttribute("aria-describedby", note.id);
  field.addEventListener("change", async () => {
    field.dataset.busy = "yes";
    answer.textContent = "…";
    const { ok, message } = await change(name, valueOf(field, kind));
    delete field.dataset.busy;
    answer.textContent = message;
    answer.classList.toggle("refused", !ok);
    if (!ok) setValue(field, row.parameter);
  });
  row.append(label, field, note, answer);
  return row;
}

function setValue(field, { value, kind }) {
  if (kind === "bool") field.checked = value;
  else field.value = kind === "float" ? String(Number(value.toFixed(6))) : String(value);
}

/** Return what was entered; a number that is none is sent as it was written, for the node to refuse. */
function valueOf(field, kind) {
  if (kind === "bool") return field.checked;
  if (kind === "text" || field.value === "") return field.value;
  return Number(field.value);
}
