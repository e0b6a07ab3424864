// Tables sort by a click, or Enter, on the head of a column. Without this script they are complete and in their own order.
const numberOf = (text) => {
  const found = text.replace(/,/g, "").replace(/\u2212/g, "-").match(/^[<\s]*([-+]?\d+(?:\.\d+)?)/);
  return found ? Number(found[1]) : NaN;
};
const valueOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].innerText.trim();
const compare = (a, b) => {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return Number.isNaN(x) ? a.localeCompare(b) : x - y;
};
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.classList.contains("still")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, other) => (down ? -1 : 1) * compare(valueOf(one, column), valueOf(other, column)));
      table.tBodies[0].append(...rows);
    });
  });
}
