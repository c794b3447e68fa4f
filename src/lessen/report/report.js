"use strict";
// Draws the figures that the page carries as data, in the page's own colours, and sorts its table.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const data = JSON.parse(document.getElementById("data").textContent);
  const config = { responsive: true, displaylogo: false, displayModeBar: false, showTips: false, showLink: false };
  const drawn = new Map(); // element -> figure, to draw again when the colours change

  // "var(--prune)" anywhere in a figure becomes the colour of that name
  function painted(node, colours) {
    if (typeof node === "string") {
      const name = /^var\((--[a-z]+)\)$/.exec(node);
      return name ? colours.getPropertyValue(name[1]).trim() : node;
    }
    if (Array.isArray(node)) return node.map((item) => painted(item, colours));
    if (node && typeof node === "object")
      return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, painted(item, colours)]));
    return node;
  }

  function draw(element, figure) {
    if (!element) return;
    element.hidden = !figure;
    if (!figure) return void drawn.delete(element);
    drawn.set(element, figure);
    const look = painted(figure, getComputedStyle(root));
    Plotly.react(element, look.data, look.layout, config);
  }

  function repaint() {
    for (const [element, figure] of drawn) draw(element, figure);
  }

  // step by step
  const pick = document.getElementById("pick");
  const layerPick = document.getElementById("layer-pick");

  function show(number) {
    const recipe = data.recipes[number];
    if (!recipe) return;
    pick.value = number;
    for (const ledger of document.querySelectorAll(".ledger"))
      ledger.classList.toggle("on", ledger.dataset.recipe === String(number));
    draw(document.getElementById("waterfall"), recipe.waterfall);
    draw(document.getElementById("curves"), recipe.curves);
    document.getElementById("no-curves").hidden = Boolean(recipe.curves);
    document.getElementById("lottery").hidden = !recipe.lottery;
    draw(document.getElementById("lottery-plot"), recipe.lottery);
    document.getElementById("layers").hidden = recipe.layers.length === 0;
    layerPick.replaceChildren(...recipe.layers.map((layer, i) => new Option(layer.title, i)));
    showLayer();
  }

  function showLayer() {
    const layers = data.recipes[pick.value].layers;
    draw(document.getElementById("layer-plot"), layers.length ? layers[layerPick.value].figure : null);
  }

  // score against bytes and latency: a click on a mark shows its steps
  for (const element of document.querySelectorAll("[data-figure]")) {
    const figure = data.figures[element.dataset.figure];
    draw(element, figure);
    if (figure)
      element.on("plotly_click", (event) => {
        show(event.points[0].text);
        document.getElementById("steps").scrollIntoView();
      });
  }
  for (const element of document.querySelectorAll("[data-question]")) draw(element, data.questions[element.dataset.question]);
  for (const button of document.querySelectorAll("[data-show]"))
    button.addEventListener("click", () => {
      for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
      draw(document.getElementById("latency"), data.figures[button.dataset.show]);
    });
  if (pick) {
    pick.addEventListener("change", () => show(pick.value));
    layerPick.addEventListener("change", showLayer);
    for (const link of document.querySelectorAll("[data-pick]"))
      link.addEventListener("click", () => show(link.dataset.pick));
    show(pick.value);
  }

  // the table: numbers by value, texts by alphabet, what is unknown last either way
  const table = document.querySelector("table.sortable");
  const heads = [...table.tHead.rows[1].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort;
      const text = head.classList.contains("name");
      const compare = (a, b) => {
        if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
        const order = text ? key(a).localeCompare(key(b)) : key(a) - key(b);
        return up ? order : -order;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  matchMedia("print").addEventListener("change", repaint);
})();
