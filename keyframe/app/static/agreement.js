// The page of agreement: a row for each annotator, and one for all.
import { api, attempt, page, say, tableRow } from "./common.js";

const number = (value) => (value === null ? "n/a" : value.toFixed(2));

function line(row, name) {
  const cells = ["spearman", "kendall"].map((metric) => {
    const [low, high] = [row[`${metric}_lo`], row[`${metric}_hi`]];
    return number(row[metric]) + (low === null ? "" : ` (${number(low)} to ${number(high)})`);
  });
  return tableRow(name, `${row.videos}`, ...cells);
}

attempt(async () => {
  const found = await api("agreement");
  page.withheld.hidden = !found.withheld.length;
  page.withheld.textContent = `Left out while an annotator is at work: ${found.withheld.join(", ")}.`;
  if (!found.all) say("No video has been scored by two annotators yet.");
  page.table.hidden = !found.all;
  if (!found.all) return;
  page.rows.replaceChildren(...found.annotators.map((row) => line(row, row.name)), line(found.all, "All, mean"));
});
