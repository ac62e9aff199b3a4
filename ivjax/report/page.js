"use strict";

// Films: a slider and a button for the strips of one figure.
const calm = matchMedia("(prefers-reduced-motion: reduce)");
for (const film of document.querySelectorAll(".film")) {
  const slider = film.querySelector("input[type=range]");
  film.classList.add("moving");
  if (!slider) continue;
  film.style.setProperty("--at", slider.value - 1);
  const button = film.querySelector("button"), shown = film.querySelector("output");
  let timer = null;
  const show = (frame) => {
    slider.value = frame;
    shown.textContent = frame;
    film.style.setProperty("--at", frame - 1);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  };
  const play = () => {
    timer = setInterval(() => show(Number(slider.value) % Number(slider.max) + 1), 400);
    button.textContent = "Pause";
  };
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  button.addEventListener("click", () => (timer === null ? play() : stop()));
  // Played while it is seen, unless the reader has asked for less motion or has stopped it.
  let asked = false;
  button.addEventListener("click", () => { asked = true; });
  slider.addEventListener("input", () => { asked = true; });
  new IntersectionObserver((entries) => {
    const seen = entries.at(-1).isIntersecting;
    if (!seen) stop();
    else if (!asked && !calm.matches && timer === null) play();
  }).observe(film);
}

// Tables: only those that are wider than the page are stops of the Tab key.
const wide = new ResizeObserver((entries) => {
  for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
});
for (const box of document.querySelectorAll(".scroll")) wide.observe(box);

// Charts: a cursor that follows the pointer or the arrow keys, and says the values there.
const told = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
for (const chart of document.querySelectorAll("svg[data-chart]")) {
  const { steps: [low, high], across: [left, right, width], lines } = JSON.parse(chart.dataset.chart);
  const cursor = chart.querySelector(".cursor"), reading = chart.parentElement.querySelector(".reading");
  const steps = [...new Set(lines.flatMap((line) => line.points.map(([step]) => step)))].sort((a, b) => a - b);
  let place = -1;
  const nearest = (step) => steps.reduce((best, each, n) => (Math.abs(each - step) < Math.abs(steps[best] - step) ? n : best), 0);
  const show = (number) => {
    place = Math.min(Math.max(number, 0), steps.length - 1);
    const step = steps[place];
    const across = left + (step - low) / (high - low) * (right - left);
    cursor.setAttribute("x1", across);
    cursor.setAttribute("x2", across);
    cursor.setAttribute("visibility", "visible");
    const values = lines.map((line) => [line.label, line.points.find(([each]) => each === step)]).filter(([, point]) => point);
    reading.textContent = `step ${step.toLocaleString("en")}: ` + values.map(([label, [, value]]) => `${label} ${told(value)}`).join("; ");
  };
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width * width;
    show(nearest(low + (across - left) / (right - left) * (high - low)));
  });
  chart.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: steps.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(moves[event.key]);
  });
}
