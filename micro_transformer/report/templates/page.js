"use strict";
// Sorting, filtering and hovering. Text goes in as textContent only; without this script the page
// is whole.
(() => {
  const FIRST = 25;
  const make = (name, text, cls) => {
    const node = document.createElement(name);
    if (text) node.textContent = text;
    if (cls) node.className = cls;
    return node;
  };

  for (const sheet of document.querySelectorAll(".sheet")) {
    const body = sheet.querySelector("tbody");
    const rows = [...body.rows];
    if (rows.length < 2) continue;
    const bar = make("div", "", "bar");
    const find = make("input");
    find.type = "search";
    find.placeholder = "Filter rows";
    find.setAttribute("aria-label", "Filter rows");
    const heads = [...sheet.querySelectorAll("th")];
    const order = make("select", "", "order");
    order.setAttribute("aria-label", "Sort by");
    order.append(make("option", "Sort by …"));
    heads.forEach((head) => order.append(make("option", head.textContent)));
    const count = make("span");
    const more = make("button");
    more.type = "button";
    bar.append(find, order, count, more);
    sheet.insertBefore(bar, sheet.querySelector(".scroll"));
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    let all = false;
    let column = -1;
    let up = true;

    const show = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      let hits = 0;
      for (const row of body.rows) {
        const hit = words.every((word) => texts.get(row).includes(word));
        hits += hit;
        row.hidden = !hit || (!all && hits > FIRST);
      }
      count.textContent = hits + " of " + rows.length + " rows";
      more.hidden = hits <= FIRST;
      more.textContent = all ? "Show fewer" : "Show all";
    };
    const value = (row) => {
      const sort = row.cells[column].dataset.sort;
      if (sort === undefined) return null;
      return sort.trim() !== "" && isFinite(sort) ? Number(sort) : sort;
    };
    const compare = (a, b) => {
      const x = value(a), y = value(b);
      if (x === null || y === null) return (x === null) - (y === null);
      const turn = up ? 1 : -1;
      if (typeof x === "number" && typeof y === "number") return turn * (x - y);
      return turn * String(x).localeCompare(String(y), undefined, { numeric: true });
    };
    const sort = (to) => {
      up = column === to ? !up : true;
      column = to;
      heads.forEach((head, i) =>
        i === to ? head.setAttribute("aria-sort", up ? "ascending" : "descending")
          : head.removeAttribute("aria-sort"));
      body.append(...rows.slice().sort(compare));
      show();
    };
    heads.forEach((head, i) => head.addEventListener("click", () => sort(i)));
    order.addEventListener("change", () => order.selectedIndex && sort(order.selectedIndex - 1));
    find.addEventListener("input", show);
    more.addEventListener("click", () => { all = !all; show(); });
    show();
    let before = false;
    addEventListener("beforeprint", () => { before = all; all = true; show(); });
    addEventListener("afterprint", () => { all = before; show(); });
  }

  const folds = [...document.querySelectorAll("details")];
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = folds.filter((fold) => !fold.open);
    folded.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((fold) => { fold.open = false; }));

  for (const trade of document.querySelectorAll(".trade")) {
    const choose = trade.querySelector(".choose");
    const tip = trade.querySelector(".tip");
    const views = [...trade.querySelectorAll(".view")];
    const pick = () => views.forEach((view) => { view.hidden = view.dataset.view !== choose.value; });
    choose.addEventListener("change", pick);
    pick();
    const open = (point) => {
      tip.textContent = point.dataset.tip;
      tip.hidden = false;
      const frame = trade.getBoundingClientRect();
      const place = point.querySelector(".target").getBoundingClientRect();
      const left = place.left - frame.left + place.width / 2 - tip.offsetWidth / 2;
      tip.style.left = Math.max(4, Math.min(left, frame.width - tip.offsetWidth - 4)) + "px";
      const above = place.top - frame.top - tip.offsetHeight - 6;
      tip.style.top = (above > 0 ? above : place.bottom - frame.top + 6) + "px";
    };
    const close = () => { tip.hidden = true; };
    for (const point of trade.querySelectorAll(".point")) {
      const title = point.querySelector("title");
      if (title) title.remove();
      point.setAttribute("aria-label", point.dataset.tip);
      point.addEventListener("pointerenter", () => open(point));
      point.addEventListener("focus", () => open(point));
      point.addEventListener("pointerleave", close);
      point.addEventListener("blur", close);
      point.addEventListener("click", () => {
        open(point);
        document.querySelectorAll(".lit").forEach((node) => node.classList.remove("lit"));
        point.classList.add("lit");
        for (const row of document.querySelectorAll("tbody tr")) {
          if (row.cells[0].dataset.sort === point.dataset.config) row.classList.add("lit");
        }
      });
    }
  }

  for (const code of document.querySelectorAll("td code")) {
    code.title = "Click to copy";
    code.addEventListener("click", () => {
      if (!navigator.clipboard) return;
      navigator.clipboard.writeText(code.textContent).then(() => code.classList.add("copied"));
    });
  }
})();
