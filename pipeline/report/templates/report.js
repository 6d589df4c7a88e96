"use strict";
(() => {
  const SHOWN = 50; // rows of the table of what was found
  const data = JSON.parse(document.getElementById("rows").textContent);
  const titles = { id: "id", shows: "shows", taken_for: "taken for", confidence: "confidence", to_find: "to find",
    ap_first: "AP first step", ap_last: "AP" };
  const input = document.getElementById("find");
  const found = document.getElementById("found");
  const shown = new Set(data.shown);
  const queries = [...document.querySelectorAll("section[data-find]")];
  const text = data.rows.map((row) => row.filter((cell) => typeof cell === "string").join(" ").toLowerCase());

  const element = (name, content) => {
    const made = document.createElement(name);
    made.textContent = content ?? "";
    return made;
  };

  const find = () => {
    const words = input.value.trim().toLowerCase();
    const matches = (line) => line.includes(words);
    for (const query of queries) query.hidden = !matches(query.dataset.find.toLowerCase());
    found.replaceChildren();
    if (!words) return;
    const rows = text.flatMap((line, row) => (matches(line) ? [row] : []));
    const more = rows.length > SHOWN ? `, the first ${SHOWN} are shown` : "";
    found.append(element("p", `${rows.length} of ${data.rows.length} listed test photographs${more}.`));
    if (!rows.length) return;
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const column of data.columns) head.append(element("th", titles[column]));
    const body = table.createTBody();
    for (const row of rows.slice(0, SHOWN)) {
      const line = body.insertRow();
      data.rows[row].forEach((cell, at) => {
        const place = line.insertCell();
        if (at || !shown.has(row)) return void (place.textContent = cell ?? "");
        const link = element("a", cell);
        link.href = `#q${row}`;
        place.append(link);
      });
    }
    const frame = document.createElement("div");
    frame.className = "scroll";
    frame.append(table);
    found.append(frame);
  };

  const step = (by) => {
    const seen = queries.filter((query) => !query.hidden);
    const below = seen.findIndex((query) => query.getBoundingClientRect().bottom > 0);
    const focused = seen.indexOf(document.activeElement.closest("section.query"));
    const next = focused >= 0 ? focused + by : below;
    const query = seen[Math.max(0, Math.min(seen.length - 1, next))];
    if (!query) return;
    query.scrollIntoView();
    query.focus({ preventScroll: true });
  };

  input.addEventListener("input", find);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === input) {
      if (event.key === "Escape") { input.value = ""; find(); input.blur(); }
      return;
    }
    if (event.key === "/") { event.preventDefault(); input.focus(); }
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
