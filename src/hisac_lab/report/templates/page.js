"use strict";
// The page is whole without this: it adds a switch for dark and light, and a filter and sorting to long tables.
const root = document.documentElement;
const kept = { get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
  set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* a file may keep nothing */ } } };
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const theme = document.getElementById("theme");
if (kept.get("theme")) root.dataset.theme = kept.get("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  kept.set("theme", root.dataset.theme);
});

const number = (text) => {
  const found = text.replaceAll(",", "").replaceAll("\u2212", "-").match(/[+-]?\d+(\.\d+)?/);
  return found ? Number(found[0]) : -Infinity;
};
for (const box of document.querySelectorAll(".board")) {
  const table = box.querySelector("table"), body = table.tBodies[0];
  const said = document.createElement("label"), field = document.createElement("input");
  field.type = "search";
  said.className = "filter";
  const count = document.createElement("output");
  said.append(`Filter by ${table.tHead.rows[0].cells[0].textContent} `, field, " ", count);
  box.querySelector(".scroll").before(said);
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of body.rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    const shown = [...body.rows].filter((row) => !row.hidden).length;
    count.value = wanted ? `${shown} of ${body.rows.length}` : "";
  });
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.ariaSort = down ? "descending" : "ascending";
      const text = (row) => row.cells[place].textContent.trim();
      const order = (one, other) => place ? number(text(one)) - number(text(other)) : text(other).localeCompare(text(one));
      body.append(...[...body.rows].sort((one, other) => (down ? -1 : 1) * order(one, other)));
    });
  });
}
// Only what scrolls is a stop of the Tab key.
const stops = () => document.querySelectorAll(".scroll, .wide figure").forEach((box) => {
  const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
  if (scrolls) box.tabIndex = 0; else box.removeAttribute("tabindex");
});
addEventListener("resize", stops);
document.addEventListener("toggle", stops, true);
stops();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
