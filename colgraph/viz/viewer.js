"use strict";
// A sheet in three dimensions on plain WebGL: drag or arrow keys turn it, the wheel or + and - zoom, a click picks a
// column. Everything is drawn on demand, so an idle page costs nothing, and what a column has lies in buffers that only
// another map, step or choice fills: a turn sends two matrices. Where the whole picture takes longer than a smooth turn
// allows, which is so without a graphics card, a coarser one is drawn while something moves and the whole one after it.
(function () {
  const root = document.getElementById("sheet-viewer");
  const data = JSON.parse(document.getElementById("sheet-data").textContent);
  const at = (name) => root.querySelector(`[data-part="${name}"]`);
  const canvas = at("canvas");

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const ints = (text) => new Uint32Array(bytes(text).buffer);

  const count = data.columns;
  const position = floats(data.position);
  const face = data.face ? ints(data.face) : new Uint32Array(0);
  const coarse = data.coarse ? ints(data.coarse) : face;
  const pointer = ints(data.pointer);
  const source = ints(data.source);
  const weight = bytes(data.weight);
  const luts = Object.fromEntries(Object.entries(data.luts).map(([name, text]) => [name, bytes(text)]));
  const maps = data.maps.map((map) => ({ ...map, values: bytes(map.values),
    numbers: map.numbers ? new Uint16Array(bytes(map.numbers).buffer) : null }));
  const views = data.views.map((view) => ({ ...view, face: view.face ? ints(view.face) : null,
    place: view.place ? floats(view.place) : view.shown ? only(bytes(view.shown)) : position }));

  // Places of the columns that a view shows, and of the others somewhere out of sight.
  function only(shown) { return position.map((at, i) => (shown[Math.floor(i / 3)] ? at : 1e6)); }

  const fields = data.fields ? { ...data.fields, values: bytes(data.fields.values), row: new Map() } : null;
  if (fields) ints(fields.columns).forEach((column, row) => fields.row.set(column, row));

  // Smooth edges are half of the work without a graphics card. Only WebGL 2 lets a page have them at rest alone.
  // Nothing shines through the canvas: told so, the browser need not mix each frame with the page behind it.
  const rough = canvas.getContext("webgl2", { alpha: false, antialias: false, preserveDrawingBuffer: true });
  const gl = rough || canvas.getContext("webgl", { alpha: false, antialias: true, preserveDrawingBuffer: true });
  if (!gl) {
    at("status").textContent = "This browser offers no WebGL, which the interactive sheet needs.";
    return;
  }
  gl.getExtension("OES_element_index_uint");

  // ------------------------------------------------------------------ programs and buffers

  function program(vertex, fragment) {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    return made;
  }

  const surface = program(
    `attribute vec3 place, normal, colour; uniform mat4 view; uniform mat3 turn; varying vec3 shown;
     void main() { gl_Position = view * vec4(place, 1.0);
       float light = 0.55 + 0.45 * abs((turn * normal).z); shown = colour * light; }`,
    "precision mediump float; varying vec3 shown; void main() { gl_FragColor = vec4(shown, 1.0); }");
  const dots = program(
    `attribute vec3 place, colour; attribute float large; uniform mat4 view; uniform float size; varying vec3 shown;
     void main() { gl_Position = view * vec4(place, 1.0); gl_PointSize = size * large / gl_Position.w; shown = colour; }`,
    `precision mediump float; varying vec3 shown; uniform float rim;
     void main() { float r = length(gl_PointCoord - 0.5); if (r > 0.5) discard;
       gl_FragColor = vec4(r > 0.5 - rim ? vec3(0.13, 0.15, 0.17) : shown, 1.0); }`);
  const lines = program(
    `attribute vec3 place; attribute vec4 colour; uniform mat4 view; varying vec4 shown;
     void main() { gl_Position = view * vec4(place, 1.0); gl_Position.z -= 0.002; shown = colour; }`,
    "precision mediump float; varying vec4 shown; void main() { gl_FragColor = shown; }");

  function buffer(kind, values, use) {
    const made = gl.createBuffer();
    gl.bindBuffer(kind, made);
    gl.bufferData(kind, values, use || gl.STATIC_DRAW);
    return made;
  }

  function normals() {
    const out = new Float32Array(3 * count);
    for (let f = 0; f < face.length; f += 3) {
      const [a, b, c] = [face[f], face[f + 1], face[f + 2]].map((i) => 3 * i);
      const u = [0, 1, 2].map((k) => position[b + k] - position[a + k]);
      const v = [0, 1, 2].map((k) => position[c + k] - position[a + k]);
      const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (const i of [a, b, c]) for (let k = 0; k < 3; k++) out[i + k] += n[k];
    }
    for (let i = 0; i < out.length; i += 3) {
      const length = Math.hypot(out[i], out[i + 1], out[i + 2]) || 1;
      for (let k = 0; k < 3; k++) out[i + k] /= length;
    }
    return out;
  }

  const upright = normals();
  const colours = new Uint8Array(3 * count);
  const buffers = {
    place: buffer(gl.ARRAY_BUFFER, position),
    normal: buffer(gl.ARRAY_BUFFER, upright),
    colour: buffer(gl.ARRAY_BUFFER, colours, gl.DYNAMIC_DRAW),
    face: buffer(gl.ELEMENT_ARRAY_BUFFER, face),
    coarse: buffer(gl.ELEMENT_ARRAY_BUFFER, coarse),
    flat: buffer(gl.ELEMENT_ARRAY_BUFFER, views.reduce((found, view) => view.face || found, new Uint32Array(0))),
    ends: gl.createBuffer(),
    tints: gl.createBuffer(),
    heard: gl.createBuffer(),
    hues: gl.createBuffer(),
    sizes: gl.createBuffer(),
  };

  // ------------------------------------------------------------------ state

  const state = {
    map: 0, step: 0, column: -1, heard: new Set(), zoom: 1, turn: start(), points: face.length === 0, edges: 0, dots: 0,
    queued: false, moving: false, rest: 0, slow: true, view: views.length ? views[0] : null,
  };
  const place = () => (state.view ? state.view.place : position);

  function start() {
    if (views.length && !data.flat && face.length) return views[0].turn;
    return data.flat ? about("x", -0.5) : multiply(about("x", -1.2), about("z", data.yaw));
  }

  function about(axis, angle) {
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    if (axis === "x") return [1, 0, 0, 0, c, -s, 0, s, c];
    if (axis === "y") return [c, 0, s, 0, 1, 0, -s, 0, c];
    return [c, -s, 0, s, c, 0, 0, 0, 1];
  }

  function multiply(a, b) {
    const out = new Array(9).fill(0);
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) for (let k = 0; k < 3; k++) out[3 * i + j] += a[3 * i + k] * b[3 * k + j];
    return out;
  }

  // The camera stands four units away and looks at the sheet, which fits in a unit sphere.
  function matrix() {
    const r = state.turn, aspect = canvas.width / canvas.height;
    const f = 2.9 * state.zoom, near = 0.1, far = 12, away = 4;
    const fx = aspect > 1 ? f / aspect : f, fy = aspect > 1 ? f : f * aspect;
    const m = [fx * r[0], fx * r[1], fx * r[2], 0, fy * r[3], fy * r[4], fy * r[5], 0];
    const a = (far + near) / (far - near), b = (2 * far * near) / (far - near);
    m.push(-a * r[6], -a * r[7], -a * r[8], a * away - b, -r[6], -r[7], -r[8], away);
    return m; // row by row
  }

  const columnwise = (m, n) => m.map((_, i) => m[(i % n) * n + Math.floor(i / n)]);

  // ------------------------------------------------------------------ drawing

  function paint() {
    const map = maps[state.map], lut = luts[map.lut], offset = map.steps > 1 ? state.step * count : 0;
    for (let i = 0; i < count; i++) {
      const value = map.values[offset + i];
      const pale = state.column >= 0 && !state.heard.has(i) ? (state.points ? 0.6 : 0.2) : 0;
      for (let k = 0; k < 3; k++) {
        const full = value === 255 && map.holes ? 205 : lut[3 * value + k];
        colours[3 * i + k] = full + pale * (242 - full);
      }
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers.colour);
    gl.bufferData(gl.ARRAY_BUFFER, colours, gl.DYNAMIC_DRAW);
  }

  function attribute(made, name, from, size, type, normalised) {
    const place = gl.getAttribLocation(made, name);
    if (place < 0) return;
    gl.bindBuffer(gl.ARRAY_BUFFER, from);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type || gl.FLOAT, Boolean(normalised), 0, 0);
  }

  const SMOOTH = 12; // milliseconds: a whole picture in less leaves a turn at 60 a second
  const PIXELS = 150000; // of a picture in movement, whatever the window and the screen
  const REST = 150; // milliseconds without movement until the whole picture is drawn

  function draw() {
    state.queued = false;
    const quick = state.moving && state.slow, began = performance.now();
    const whole = Math.min(window.devicePixelRatio || 1, 2);
    const area = Math.max(1, canvas.clientWidth * canvas.clientHeight);
    const ratio = quick ? Math.min(whole, Math.sqrt(PIXELS / area)) : whole;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    if (rough && !quick) smooth(width, height);
    scene(quick, ratio / whole);
    if (rough && !quick) show(width, height);
    if (quick || state.moving) return;
    // Reading one pixel back waits until the picture is there, so that this is the time which it takes.
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
    state.slow = performance.now() - began > SMOOTH;
  }

  // A picture at rest is drawn with several samples per pixel beside the canvas, averaged, and copied into it: two steps,
  // because samples may be averaged only between buffers of one format, and a canvas without transparency has its own.
  const pixel = new Uint8Array(4);
  const beside = rough && Object.fromEntries(["many", "one"].map((name) => [name, gl.createFramebuffer()]));

  function store(target, samples, attachment, format, width, height) {
    const part = gl.createRenderbuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.bindRenderbuffer(gl.RENDERBUFFER, part);
    gl.renderbufferStorageMultisample(gl.RENDERBUFFER, samples, format, width, height);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, attachment, gl.RENDERBUFFER, part);
    return part;
  }

  function smooth(width, height) {
    if (beside.width !== width || beside.height !== height) {
      const samples = Math.min(4, gl.getParameter(gl.MAX_SAMPLES));
      (beside.parts || []).forEach((part) => gl.deleteRenderbuffer(part));
      Object.assign(beside, { width, height, parts: [
        store(beside.one, 0, gl.COLOR_ATTACHMENT0, gl.RGBA8, width, height),
        store(beside.many, samples, gl.DEPTH_ATTACHMENT, gl.DEPTH_COMPONENT24, width, height),
        store(beside.many, samples, gl.COLOR_ATTACHMENT0, gl.RGBA8, width, height),
      ] });
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, beside.many);
  }

  function show(width, height) {
    for (const [from, to] of [[beside.many, beside.one], [beside.one, null]]) {
      gl.bindFramebuffer(gl.READ_FRAMEBUFFER, from);
      gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, to);
      gl.blitFramebuffer(0, 0, width, height, 0, 0, width, height, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }

  function scene(quick, scale) {
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0.98, 0.98, 0.99, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const view = columnwise(matrix(), 4);
    const use = (made) => { gl.useProgram(made); gl.uniformMatrix4fv(gl.getUniformLocation(made, "view"), false, view); };
    if (!state.points) {
      use(surface);
      gl.uniformMatrix3fv(gl.getUniformLocation(surface, "turn"), false, columnwise(state.turn, 3));
      const flat = state.view && state.view.face;
      attribute(surface, "place", buffers.place, 3);
      attribute(surface, "normal", buffers.normal, 3);
      attribute(surface, "colour", buffers.colour, 3, gl.UNSIGNED_BYTE, true);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, flat ? buffers.flat : quick ? buffers.coarse : buffers.face);
      gl.drawElements(gl.TRIANGLES, (flat || (quick ? coarse : face)).length, gl.UNSIGNED_INT, 0);
    } else {
      circles(view, buffers.place, buffers.colour, null, count, dotSize(), 0);
    }
    if (state.dots) {
      // Whom a column listens to is drawn over everything, so that nothing hides it.
      gl.disable(gl.DEPTH_TEST);
      use(lines);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
      attribute(lines, "place", buffers.ends, 3);
      attribute(lines, "colour", buffers.tints, 4, gl.UNSIGNED_BYTE, true);
      gl.drawArrays(gl.LINES, 0, state.edges);
      gl.disable(gl.BLEND);
      circles(view, buffers.heard, buffers.hues, buffers.sizes, state.dots, Math.max(44 * scale, dotSize()), 0.1);
    }
  }

  const dotSize = () => Math.max(2, data.dot * state.zoom * Math.min(canvas.width, canvas.height) * 2.6);

  function circles(view, place, colour, sizes, number, size, rim) {
    gl.useProgram(dots);
    gl.uniformMatrix4fv(gl.getUniformLocation(dots, "view"), false, view);
    gl.uniform1f(gl.getUniformLocation(dots, "size"), size);
    gl.uniform1f(gl.getUniformLocation(dots, "rim"), rim);
    attribute(dots, "place", place, 3);
    attribute(dots, "colour", colour, 3, gl.UNSIGNED_BYTE, true);
    const large = gl.getAttribLocation(dots, "large");
    if (sizes) attribute(dots, "large", sizes, 1);
    else { gl.disableVertexAttribArray(large); gl.vertexAttrib1f(large, 1); }
    gl.drawArrays(gl.POINTS, 0, number);
  }

  function redraw() {
    if (!state.queued) { state.queued = true; requestAnimationFrame(draw); }
  }

  function settle() { state.moving = false; redraw(); }

  function move() {
    state.moving = true;
    clearTimeout(state.rest);
    state.rest = setTimeout(settle, REST);
    redraw();
  }

  // ------------------------------------------------------------------ one column

  const point = (i) => [place()[3 * i], place()[3 * i + 1], place()[3 * i + 2]];

  // Lines to the columns that are heard, and dots on them: the larger, the more is heard. The column itself is blue.
  function star(column) {
    const ends = [], tints = [], heard = [], hues = [], sizes = [];
    state.heard = new Set(column < 0 ? [] : [column]);
    for (let e = pointer[Math.max(column, 0)]; column >= 0 && e < pointer[column + 1]; e++) {
      if (source[e] === column) continue;
      state.heard.add(source[e]);
      ends.push(...point(column), ...point(source[e]));
      const alpha = 90 + Math.round((165 * weight[e]) / 255);
      for (let end = 0; end < 2; end++) tints.push(213, 94, 0, alpha);
      heard.push(...point(source[e])); hues.push(230, 159, 0); sizes.push(0.25 + 0.6 * Math.sqrt(weight[e] / 255));
    }
    if (column >= 0) { heard.push(...point(column)); hues.push(0, 114, 178); sizes.push(1); }
    const fill = (to, values) => { gl.bindBuffer(gl.ARRAY_BUFFER, to); gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW); };
    fill(buffers.ends, new Float32Array(ends));
    fill(buffers.tints, new Uint8Array(tints));
    fill(buffers.heard, new Float32Array(heard));
    fill(buffers.hues, new Uint8Array(hues));
    fill(buffers.sizes, new Float32Array(sizes));
    state.edges = ends.length / 3;
    state.dots = sizes.length;
  }

  function value(map, column) {
    const at = (map.steps > 1 ? state.step * count : 0) + column, raw = map.values[at];
    if (map.names) return raw === 255 ? "none" : map.names[map.numbers ? map.numbers[at] : raw];
    if (raw === 255 && map.holes) return "none";
    return `${(map.low + (raw / (map.holes ? 254 : 255)) * (map.high - map.low)).toPrecision(3)}${map.sign}`;
  }

  function select(column) {
    if (!Number.isInteger(column) || column >= count) return;
    state.column = Math.max(column, -1);
    star(state.column);
    at("column").value = column < 0 ? "" : column;
    refresh();
  }

  function describe() {
    const column = state.column, map = maps[state.map];
    at("field").parentNode.hidden = column < 0;
    if (column < 0) { at("status").textContent = at("status").dataset.help; return; }
    const heard = [];
    for (let e = pointer[column]; e < pointer[column + 1]; e++) heard.push([weight[e], source[e]]);
    heard.sort((a, b) => b[0] - a[0]);
    const total = heard.reduce((sum, pair) => sum + pair[0], 0) || 1;
    const list = heard.slice(0, 5).map(([w, i]) => `${i === column ? "itself" : i} (${Math.round((100 * w) / total)}%)`);
    const others = heard.filter((pair) => pair[1] !== column).length;
    at("status").textContent = `Column ${column}: ${map.name} ${value(map, column)}. ` +
      (heard.length ? `It listens to ${others} other columns, most to ${list.join(", ")}.` : "It listens to nobody.");
    field(column);
  }

  function field(column) {
    const target = at("field"), note = at("field-note");
    target.hidden = !fields || !fields.row.has(column);
    if (!fields) { note.textContent = "No receptive fields were measured."; return; }
    const row = fields.row.get(column), pen = target.getContext("2d");
    pen.clearRect(0, 0, target.width, target.height);
    if (row === undefined) { note.textContent = "No receptive field was measured for this column."; return; }
    const [height, width] = fields.shape, image = pen.createImageData(width, height), lut = luts[fields.lut];
    for (let i = 0; i < height * width; i++) {
      const raw = fields.values[row * height * width + i];
      for (let k = 0; k < 3; k++) image.data[4 * i + k] = lut[3 * raw + k];
      image.data[4 * i + 3] = 255;
    }
    target.width = width;
    target.height = height;
    pen.putImageData(image, 0, 0);
    note.textContent = `Receptive field of column ${column} by reverse correlation (the whole image).`;
  }

  function pick(x, y) {
    const m = matrix(), radius = Math.max(22, 0.04 * canvas.clientWidth);
    let best = -1, score = Infinity;
    for (let i = 0; i < count; i++) {
      const [a, b, c] = point(i);
      const w = m[12] * a + m[13] * b + m[14] * c + m[15];
      const px = (0.5 + (0.5 * (m[0] * a + m[1] * b + m[2] * c + m[3])) / w) * canvas.clientWidth;
      const py = (0.5 - (0.5 * (m[4] * a + m[5] * b + m[6] * c + m[7])) / w) * canvas.clientHeight;
      const off = Math.hypot(px - x, py - y);
      // Of the columns under the pointer the front one counts: depth weighs more than a few pixels.
      const s = off + 60 * w;
      if (off <= radius && s < score) { score = s; best = i; }
    }
    if (best >= 0) select(best);
  }

  // ------------------------------------------------------------------ controls

  function legend() {
    const map = maps[state.map], pen = at("legend").getContext("2d"), lut = luts[map.lut];
    for (let i = 0; i < 256; i++) {
      pen.fillStyle = `rgb(${lut[3 * i]}, ${lut[3 * i + 1]}, ${lut[3 * i + 2]})`;
      pen.fillRect(i, 0, 1, 12);
    }
    at("legend").hidden = Boolean(map.names);
    labels(map);
    at("low").textContent = map.names ? "" : `${Number(map.low.toPrecision(3))}${map.sign}`;
    at("high").textContent = map.names ? "" : `${Number(map.high.toPrecision(3))}${map.sign}`;
    at("unit").textContent = map.unit;
    at("step-row").hidden = map.steps < 2;
    at("step").max = map.steps - 1;
    at("step-text").textContent = `${state.step + 1} of ${map.steps}`;
  }

  // A field of its color for each label, as far as one can read them.
  function labels(map) {
    const names = (map.names || []).slice(0, 40), lut = luts[map.lut];
    at("names").replaceChildren(...names.map((name, i) => {
      const one = document.createElement("span"), field = document.createElement("i");
      field.style.background = `rgb(${lut[3 * i]}, ${lut[3 * i + 1]}, ${lut[3 * i + 2]})`;
      one.append(field, name);
      return one;
    }));
    if (map.names && map.names.length > 40) at("names").append(`and ${map.names.length - 40} more: click a column`);
  }

  function look(view) {
    state.view = view;
    state.turn = view.turn;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers.place);
    gl.bufferData(gl.ARRAY_BUFFER, view.place, gl.STATIC_DRAW);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers.normal);
    gl.bufferData(gl.ARRAY_BUFFER, view.face ? new Float32Array(3 * count).map((_, i) => Number(i % 3 === 2)) : upright, gl.STATIC_DRAW);
    select(state.column);
  }
  views.forEach((view) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = view.name;
    button.addEventListener("click", () => { state.zoom = 1; look(view); });
    at("views").append(button);
  });
  at("views").hidden = !views.length;

  function refresh() { paint(); legend(); describe(); redraw(); }

  maps.forEach((map, i) => at("map").add(new Option(map.name, i)));
  at("map").addEventListener("change", (event) => {
    state.map = Number(event.target.value);
    state.step = Math.min(state.step, maps[state.map].steps - 1);
    at("step").value = state.step;
    refresh();
  });
  at("step").addEventListener("input", (event) => { state.step = Number(event.target.value); move(); refresh(); });
  at("column").max = count - 1;
  at("column").addEventListener("change", (event) => select(Math.round(Number(event.target.value))));
  at("points").checked = state.points;
  at("points").disabled = face.length === 0;
  at("points").addEventListener("change", (event) => { state.points = event.target.checked; refresh(); });
  at("reset").addEventListener("click", () => {
    state.zoom = 1;
    if (views.length) look(views[0]);
    state.turn = start();
    select(-1);
  });

  function turn(dx, dy) { state.turn = multiply(about("x", dy), multiply(about("y", dx), state.turn)); move(); }
  function zoom(by) { state.zoom = Math.min(20, Math.max(0.4, state.zoom * by)); move(); }

  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY, moved: 0 };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
    held = { x: event.clientX, y: event.clientY, moved: held.moved + Math.abs(dx) + Math.abs(dy) };
    turn(dx / 160, dy / 160);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && held.moved < 5) {
      const box = canvas.getBoundingClientRect();
      pick(event.clientX - box.left, event.clientY - box.top);
    }
    held = null;
  });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 600)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => turn(-0.12, 0), ArrowRight: () => turn(0.12, 0), ArrowUp: () => turn(0, -0.12),
      ArrowDown: () => turn(0, 0.12), "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15),
      Escape: () => select(-1),
    }[event.key];
    if (act) { act(); event.preventDefault(); }
  });
  new ResizeObserver(redraw).observe(canvas);
  at("status").dataset.help = at("status").textContent;
  refresh();
  state.rest = setTimeout(settle, REST); // once more, to be timed without what only the first picture has to wait for
})();
