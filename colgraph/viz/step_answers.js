"use strict";
// What columns answer to a few images, step by step: a canvas for each image, one slider for all.
(function () {
  const root = document.getElementById("spreading");
  const data = JSON.parse(document.getElementById("spreading-data").textContent);
  const at = (name) => root.querySelector(`[data-part="spreading-${name}"]`);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  const pixels = bytes(data.pixels);
  const share = bytes(data.share);
  const right = bytes(data.right);
  const place = new Uint16Array(bytes(data.place).buffer);
  const [width, height] = data.size;
  const hole = 255, most = 254;

  const parts = data.colors.map((text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)));
  const colors = Array.from({ length: hole }, (_, value) => {
    const from = 2 * value < most ? 0 : 1, along = (2 * value) / most - from;
    const mixed = parts[from].map((one, i) => Math.round(one + along * (parts[from + 1][i] - one)));
    return `rgb(${mixed.join(",")})`;
  });

  function picture(number) {
    const own = document.createElement("canvas");
    own.width = width;
    own.height = height;
    const filled = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) filled.data[4 * i + c] = pixels[3 * (number * width * height + i) + c];
      filled.data[4 * i + 3] = 255;
    }
    own.getContext("2d").putImageData(filled, 0, 0);
    return own;
  }

  const shown = Array.from({ length: data.count }, (_, number) => {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.width = 480;
    canvas.height = Math.round((480 * height) / width);
    canvas.setAttribute("role", "img");
    figure.append(canvas, caption);
    at("images").append(figure);
    return { canvas, caption, pen: canvas.getContext("2d"), behind: picture(number) };
  });

  function draw(number, step) {
    const { canvas, caption, pen, behind } = shown[number];
    const side = 1 - 2 * data.inset;
    const w = data.cell[0] * canvas.width, h = data.cell[1] * canvas.height;
    pen.imageSmoothingEnabled = false;
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (data.on_image) pen.drawImage(behind, 0, 0, canvas.width, canvas.height);
    const first = (number * data.steps + step) * data.columns;
    for (let column = 0; column < data.columns; column++) {
      const value = share[first + column];
      if (value === hole) continue;
      const x = (place[2 * column] / 65535) * canvas.width, y = (place[2 * column + 1] / 65535) * canvas.height;
      pen.fillStyle = colors[value];
      pen.fillRect(x - (w * side) / 2, y - (h * side) / 2, w * side, h * side);
      if (right[first + column]) continue;
      pen.fillStyle = data.ink;
      pen.beginPath();
      pen.arc(x, y, Math.min(w, h) * 0.14, 0, 7);
      pen.fill();
    }
    caption.textContent = data.captions[number][step];
    canvas.setAttribute("aria-label", `Image ${number + 1} after step ${step + 1}: ${data.captions[number][step]}`);
  }

  const slider = at("step");
  function show() {
    const step = Number(slider.value) - 1;
    const beyond = step + 1 === data.trained ? "as trained" : `trained: ${data.trained}`;
    at("text").textContent = `${step + 1} of ${data.steps} (${beyond})`;
    slider.setAttribute("aria-valuetext", at("text").textContent);
    at("status").textContent = data.overall[step];
    for (let number = 0; number < data.count; number++) draw(number, step);
  }

  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    at("play").textContent = "Play";
    at("play").setAttribute("aria-pressed", "false");
    at("status").setAttribute("aria-live", "polite");
  }
  function play() {
    if (Number(slider.value) >= data.steps) slider.value = "1";
    at("play").textContent = "Stop";
    at("play").setAttribute("aria-pressed", "true");
    at("status").setAttribute("aria-live", "off"); // many a second would be read out
    timer = setInterval(() => {
      if (Number(slider.value) >= data.steps) return stop();
      slider.value = String(Number(slider.value) + 1);
      show();
    }, Math.max(80, 4000 / data.steps));
    show();
  }
  at("play").addEventListener("click", () => (timer === null ? play() : stop()));
  slider.addEventListener("input", () => {
    if (timer !== null) stop();
    show();
  });

  const legend = at("legend").getContext("2d");
  for (let x = 0; x < 160; x++) {
    legend.fillStyle = colors[Math.round((most * x) / 159)];
    legend.fillRect(x, 0, 1, 12);
  }
  at("low").textContent = data.low;
  at("high").textContent = data.high;
  at("wrong").hidden = data.all_right;
  slider.max = String(data.steps);
  slider.value = String(data.trained);
  show();
})();
