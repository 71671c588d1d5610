// Draws the figures of the costs page, whose table says the same.
"use strict";
(() => {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dollars = (usd) => "$" + (+usd.toPrecision(4)).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 9 });
  let chart;

  function draw() {
    chart?.destroy();
    const figure = document.querySelector("[data-chart]");
    if (!figure) return;
    figure.hidden = false;
    const { kind, labels, series } = JSON.parse(document.querySelector("[data-chart-figures]").textContent);
    const flat = kind === "bars";
    Object.assign(Chart.defaults, { color: style("--faint"), borderColor: style("--line"), animation: false, maintainAspectRatio: false });
    Chart.defaults.font.family = style("--sans");
    const amounts = { stacked: true, ticks: { callback: dollars, maxTicksLimit: 7, maxRotation: 0 } };
    const names = { stacked: true, grid: { display: false }, ticks: { autoSkip: !flat, maxRotation: 0 } };
    const scales = flat ? { x: amounts, y: names } : { x: names, y: amounts };
    const legend = { display: !flat, position: "bottom", labels: { boxWidth: 10 } };
    const label = ({ dataset, raw }) => ` ${dataset.label}: ${dollars(raw)}`;
    const plugins = { legend, tooltip: { callbacks: { label } } };
    const datasets = series.map(({ name, values }, n) => (
      { label: name, data: values, backgroundColor: style(`--c${n}`), maxBarThickness: flat ? 22 : 56 }
    ));
    const options = { indexAxis: flat ? "y" : "x", scales, plugins };
    chart = new Chart(figure.firstElementChild, { type: "bar", data: { labels, datasets }, options });
  }

  draw();
  document.addEventListener("viewer:renewed", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
