"use strict";
// Draws the figures that the page carries as data, in the page's own colours, light or dark.
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("data").textContent);
  const config = { responsive: true, displaylogo: false, displayModeBar: false, showTips: false, showLink: false };

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

  function paint() {
    const colours = getComputedStyle(root);
    for (const element of document.querySelectorAll("[data-figure]")) {
      const look = painted(figures[element.dataset.figure], colours);
      Plotly.react(element, look.data, look.layout, config);
    }
  }

  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  matchMedia("print").addEventListener("change", paint);
})();
