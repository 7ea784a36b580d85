"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const root = document.documentElement;
  const theme = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  system.addEventListener("change", nameTheme);
  nameTheme();
  // What is folded would be missing on paper.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));

  const source = byId("example-data");
  if (!source) return;
  const { texts, tables } = JSON.parse(source.textContent);
  const PAGE = 50;
  const percent = (p) => (100 * p).toFixed(1) + "%";
  const number = (x, digits) => x.toFixed(digits).replace("-", "\u2212");
  const hasGold = (row) => row.g !== undefined;
  const isRight = (row) => row.l === row.g;
  // The first label is no flip.
  const flips = (row) => (row.f || []).filter((flip, i) => i > 0 && flip[1] !== row.f[i - 1][1]).length;
  const textOf = (row) => (row.t === undefined ? "" : texts[row.t]);
  // Without the beginning and the end that many prompts share, a short line says more.
  const shared = (table) => {
    const all = table.rows.filter((row) => row.t !== undefined).map((row) => texts[row.t]);
    if (all.length < 3) return [0, 0];
    let start = all[0].length, end = all[0].length;
    for (const text of all) {
      let i = 0;
      while (i < start && i < text.length && text[i] === all[0][i]) i++;
      start = i;
      let j = 0;
      while (j < end && j < text.length && text[text.length - 1 - j] === all[0][all[0].length - 1 - j]) j++;
      end = j;
    }
    const cut = all[0].slice(0, start).search(/\S+$/);
    return [cut < 0 ? start : cut, end];
  };
  const column = (name, value, show, numeric) => ({ name, value, show, numeric });
  const columnsOf = (table) => {
    const some = (test) => table.rows.some(test);
    const label = (place) => (place === null || place === undefined ? "unread" : table.labels[place]);
    const [start, end] = shared(table);
    const brief = (row) => {
      const text = textOf(row);
      const middle = text.length - end > start ? text.slice(start, text.length - end) : text;
      return middle.replace(/\s+/g, " ").trim().slice(0, 400) || "(no text)";
    };
    const list = [column("id", (r) => r.i, (r) => r.i)];
    if (some((r) => r.t !== undefined)) list.push(column("text", textOf, brief));
    list.push(column("label", (r) => label(r.l), (r) => label(r.l)));
    const probability = (r) => (r.p && r.l !== null && r.l in r.p ? r.p[r.l] : undefined);
    if (some((r) => probability(r) !== undefined)) {
      list.push(column("probability", probability, (r) => percent(probability(r)), true));
    }
    const plain = (name, key, digits) => {
      if (some((r) => typeof r[key] === "number")) {
        list.push(column(name, (r) => r[key], (r) => number(r[key], digits), true));
      }
    };
    plain("margin (nats)", "m", 2);
    if (some((r) => r.f)) list.push(column("flips", flips, (r) => String(flips(r)), true));
    plain("entropy (nats)", "e", 3);
    if (some((r) => r.s !== undefined)) list.push(column("agreement", (r) => r.s, (r) => percent(r.s), true));
    plain("weight", "w", 3);
    if (some((r) => r.k !== undefined)) {
      list.push(column("filter", (r) => 1 - r.k, (r) => (r.k ? "kept" : "dropped")));
    }
    if (some(hasGold)) {
      list.push(column("gold", (r) => (hasGold(r) ? label(r.g) : undefined), (r) => label(r.g)));
      list.push(column("right", (r) => (hasGold(r) ? Number(isRight(r)) : undefined), (r) => (isRight(r) ? "right" : "wrong")));
    }
    return list;
  };

  const pick = { run: byId("ex-run"), find: byId("ex-find"), label: byId("ex-label"), show: byId("ex-show") };
  const body = byId("ex-body"), head = byId("ex-head"), count = byId("ex-count"), place = byId("ex-place");
  const back = byId("ex-back"), next = byId("ex-next");
  let table, columns, chosen, sort, page, opened;

  const options = (select, entries) => {
    select.replaceChildren(...entries.map(([value, text]) => {
      const option = make("option", "", text);
      option.value = value;
      return option;
    }));
    select.closest("label").hidden = entries.length < 2;
  };

  const choose = (index) => {
    table = tables[index];
    columns = columnsOf(table);
    sort = { index: -1, down: false };
    opened = new Set();
    options(pick.label, [["", "all"], ...table.labels.map((name, i) => [String(i), name])]);
    const some = (test) => table.rows.some(test);
    const shows = [["", "all"]];
    if (some(hasGold)) shows.push(["right", "right"], ["wrong", "wrong"]);
    if (some((r) => r.k !== undefined)) shows.push(["kept", "kept"], ["dropped", "dropped"]);
    if (some((r) => flips(r) > 0)) shows.push(["flipped", "flipped in the search"]);
    if (some((r) => r.m < 0)) shows.push(["against", "given against the odds"]);
    options(pick.show, shows);
    select();
  };

  const tests = {
    right: (r) => hasGold(r) && isRight(r),
    wrong: (r) => hasGold(r) && !isRight(r),
    kept: (r) => r.k === 1,
    dropped: (r) => r.k === 0,
    flipped: (r) => flips(r) > 0,
    against: (r) => r.m < 0,
  };
  const haystack = (row) => (row.h ??= (row.i + "\n" + textOf(row) + "\n" + (row.x || "")).toLowerCase());

  const select = () => {
    const words = pick.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const label = pick.label.value;
    const test = tests[pick.show.value] || (() => true);
    chosen = table.rows.filter((row) =>
      (label === "" || row.l === Number(label)) && test(row) && words.every((word) => haystack(row).includes(word)));
    if (sort.index >= 0) {
      const { value } = columns[sort.index];
      const sign = sort.down ? -1 : 1;
      const collator = new Intl.Collator("en", { numeric: true });
      const keyed = chosen.map((row, i) => [value(row), i, row]);
      keyed.sort(([a, i], [b, j]) => {
        // What has no value comes last in both directions.
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined) || i - j;
        const order = typeof a === "number" ? a - b : collator.compare(a, b);
        return sign * order || i - j;
      });
      chosen = keyed.map(([, , row]) => row);
    }
    page = 0;
    draw();
  };

  const sortBy = (index) => {
    sort = { index, down: sort.index === index && !sort.down };
    select();
    head.querySelectorAll("button")[index].focus();
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(chosen.length / PAGE));
    head.replaceChildren(...columns.map((col, index) => {
      const cell = make("th", col.numeric ? "n" : "");
      cell.scope = "col";
      cell.setAttribute("aria-sort", sort.index !== index ? "none" : sort.down ? "descending" : "ascending");
      const button = make("button", "", col.name);
      button.type = "button";
      button.addEventListener("click", () => sortBy(index));
      cell.append(button);
      return cell;
    }));
    const rows = [];
    for (const row of chosen.slice(page * PAGE, (page + 1) * PAGE)) {
      rows.push(line(row));
      if (opened.has(row)) rows.push(details(row));
    }
    body.replaceChildren(...rows);
    const all = table.rows.length;
    const grouped = (n) => n.toLocaleString("en");
    count.textContent = chosen.length === all ? `${grouped(all)} examples` : `${grouped(chosen.length)} of ${grouped(all)} examples`;
    place.textContent = `page ${page + 1} of ${pages}`;
    back.disabled = page === 0;
    next.disabled = page + 1 >= pages;
    back.parentElement.hidden = pages === 1;
  };

  const line = (row) => {
    const node = make("tr", "row");
    for (const col of columns) {
      const value = col.value(row);
      const cell = make("td", col.numeric ? "n" : col.name === "id" || col.name === "text" ? col.name : "");
      const text = value === undefined || value === null ? "\u2013" : col.show(row);
      if (col.name === "id") cell.title = text;
      if (col.name === "right" && value !== undefined) cell.classList.add(text);
      if (col.name === (columns[1].name === "text" ? "text" : "id")) {
        const button = make("button", "open", text);
        button.type = "button";
        button.setAttribute("aria-expanded", String(opened.has(row)));
        button.addEventListener("click", () => toggle(row, node, button));
        cell.append(button);
      } else {
        cell.textContent = text;
      }
      node.append(cell);
    }
    return node;
  };

  const toggle = (row, node, button) => {
    if (opened.delete(row)) node.nextElementSibling.remove();
    else {
      opened.add(row);
      node.after(details(row));
    }
    button.setAttribute("aria-expanded", String(opened.has(row)));
  };

  const small = (names, rows) => {
    const node = make("table");
    const first = make("tr");
    names.forEach((name) => first.append(make("th", "", name)));
    const top = make("thead");
    top.append(first);
    const rest = make("tbody");
    for (const cells of rows) {
      const tr = make("tr");
      cells.forEach((cell) => {
        const td = make("td");
        td.append(cell);
        tr.append(td);
      });
      rest.append(tr);
    }
    node.append(top, rest);
    return node;
  };

  const meter = (share) => {
    const node = make("span");
    const outer = make("span", "meter");
    const inner = make("i");
    inner.style.width = `${Math.max(0, Math.min(100, 100 * share))}%`;
    outer.append(inner);
    node.append(outer, percent(share));
    return node;
  };

  const details = (row) => {
    const name = (i) => (i === null || i === undefined ? "unread" : table.labels[i]);
    const node = make("tr", "more");
    const cell = make("td");
    cell.colSpan = columns.length;
    if (row.t !== undefined) cell.append(make("div", "full", textOf(row)));
    const meta = make("div", "meta");
    if (row.x) meta.append(make("div", "", `${name(row.l)}: ${row.x}`));
    if (row.p) {
      meta.append(make("h4", "", "Probability of each label"));
      meta.append(small(["label", "probability"], row.p.map((p, i) => [name(i), meter(p)])));
    }
    if (row.f) {
      meta.append(make("h4", "", "Labels along the search"));
      const steps = row.f.map(([iteration, label]) =>
        `${iteration === 0 ? "at the start" : `iteration ${iteration}`}: ${label === null ? "none" : name(label)}`);
      meta.append(make("div", "", steps.join(" \u2192 ")));
    }
    if (row.r) {
      meta.append(make("h4", "", "Filter"));
      meta.append(make("div", "", `${row.k ? "kept" : "dropped"}: ${row.r}`));
    }
    if (row.a) {
      meta.append(make("h4", "", "Answers to the variants"));
      const has = (place) => row.a.some((answer) => answer[place] !== null && answer[place] !== "");
      const parts = [
        ["variant", () => true, (a, i) => String(i + 1)],
        ["options shown as", () => has(3), (a) => a[3]],
        ["answer", () => true, (a) => name(a[0])],
        ["probability", () => has(1), (a) => (a[1] === null ? "\u2013" : percent(a[1]))],
        ["weight", () => has(2), (a) => (a[2] === null ? "\u2013" : number(a[2], 3))],
        ["written", () => has(4), (a) => a[4] || ""],
      ].filter(([, test]) => test());
      meta.append(small(parts.map(([title]) => title), row.a.map((answer, i) => parts.map(([, , show]) => show(answer, i)))));
    }
    cell.append(meta);
    node.append(cell);
    return node;
  };

  const turn = (by) => {
    page += by;
    draw();
    byId("examples").scrollIntoView();
  };
  options(pick.run, tables.map(({ name }, i) => [String(i), name]));
  pick.run.addEventListener("change", () => choose(Number(pick.run.value)));
  let waiting;
  pick.find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(select, 120);
  });
  pick.label.addEventListener("change", select);
  pick.show.addEventListener("change", select);
  back.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  byId("ex-table").hidden = false;
  choose(0);
})();
