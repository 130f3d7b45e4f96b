// The page of agreement: a row for each annotator, and one for all.
import { api, attempt, el, say } from "./common.js";

const number = (value) => (value === null ? "n/a" : value.toFixed(2));

function cell(row, metric) {
  const interval = row[`${metric}_lo`] === null ? "" : ` (${number(row[`${metric}_lo`])} to ${number(row[`${metric}_hi`])})`;
  return el("td", { class: "number" }, number(row[metric]) + interval);
}

function line(row, name) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, name),
    el("td", { class: "number" }, `${row.videos}`),
    cell(row, "spearman"),
    cell(row, "kendall"),
  );
}

attempt(async () => {
  const found = await api("agreement");
  const withheld = document.getElementById("withheld");
  withheld.hidden = !found.withheld.length;
  withheld.textContent = `Left out while an annotator is at work: ${found.withheld.join(", ")}.`;
  if (!found.all) say("No video has been scored by two annotators yet.");
  document.getElementById("table").hidden = !found.all;
  if (!found.all) return;
  const rows = found.annotators.map((row) => line(row, row.name));
  document.getElementById("rows").replaceChildren(...rows, line(found.all, "All, mean"));
});
