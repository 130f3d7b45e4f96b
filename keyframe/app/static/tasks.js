// A row for something that runs: its title, a bar, a button to stop it.
import { api, attempt, el } from "./common.js";

export function taskRow(task) {
  const over = ["done", "failed", "cancelled"].includes(task.state);
  const bar = el("progress", { max: 1, value: task.done, "aria-label": task.title });
  const stop = el("button", { onclick: () => attempt(() => api("cancel", { task: task.id })) }, "Stop");
  return el(
    "div",
    { class: "row" },
    el("span", { class: "grow" }, `${task.title} (${task.state})`, over ? null : bar),
    task.note ? el("span", { class: "bad" }, task.note) : null,
    over ? null : stop,
  );
}
