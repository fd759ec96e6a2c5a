"use strict";
// Runs the networks that #facts names on pictures, side by side, and measures them. `demo` is what tests hold on to.
const facts = JSON.parse(document.getElementById("facts").textContent);
const at = id => document.getElementById(id);
const demo = { facts, sessions: [], times: {}, outputs: {} };
const LARGEST = 512, ROUNDS = 20;  // a side, where the size is free; runs of a measurement
const KEPT = 20;  // last times of a network that its figure is the median of

async function unpacked(text) {  // gzip in base64
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

function script(source) {
  return new Promise((done, failed) => {
    const element = document.createElement("script");
    element.onload = done;
    element.onerror = () => failed(new Error(`${source} does not load: open this page by ganshrink demo --serve, or write it with --single-file`));
    element.src = source;
    document.head.append(element);
  });
}

async function hasGPU() {
  try { return !!(navigator.gpu && await navigator.gpu.requestAdapter()); } catch { return false; }
}

async function load() {
  const inside = facts.inside;
  demo.provider = !inside && await hasGPU() ? "webgpu" : "wasm";
  if (!inside) await script(`ort/ort.${demo.provider}.min.js`);
  ort.env.logLevel = "error";
  demo.threads = inside || !self.crossOriginIsolated ? 1 : Math.min(4, navigator.hardwareConcurrency || 1);
  ort.env.wasm.numThreads = demo.threads;
  if (inside) {
    ort.env.wasm.wasmBinary = (await unpacked(inside.wasm)).buffer;
    ort.env.wasm.wasmPaths = { mjs: inside.module };
  } else {
    ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
  }
  const files = [];
  for (const network of facts.networks) files.push(inside ? await unpacked(inside.networks[network.name]) : network.file);
  for (demo.provider of new Set([demo.provider, "wasm"])) {  // where WebGPU lacks an operator everything runs elsewhere
    try {
      demo.sessions = [];
      for (const file of files) demo.sessions.push(await ort.InferenceSession.create(file, { executionProviders: [demo.provider], logSeverityLevel: 3 }));
      return;
    } catch (error) {
      if (demo.provider === "wasm") throw error;
    }
  }
}

// The size at which a picture is run: the files' own, or where that is free the picture's.
function size_of(width, height) {
  const fixed = facts.networks.find(network => !network.sizes);
  let [rows, columns] = (fixed ?? facts.networks[0]).size;
  if (!fixed) {
    const step = Math.max(...facts.networks.map(network => network.sizes.size_multiple));
    const least = Math.max(...facts.networks.map(network => network.sizes.size_least));
    const by = Math.min(1, LARGEST / Math.max(width, height));
    const side = length => Math.ceil(Math.max(least, Math.round(length * by / step) * step, step) / step) * step;
    [rows, columns] = [side(height), side(width)];
  }
  return [rows, columns];
}

function show(picture) {  // an image, drawn at the size at which it is run
  const [rows, columns] = size_of(picture.naturalWidth || picture.width, picture.naturalHeight || picture.height);
  const canvas = at("input"), context = canvas.getContext("2d", { willReadFrequently: true });
  [canvas.width, canvas.height] = [columns, rows];
  context.imageSmoothingEnabled = facts.colours.length === 0;
  context.drawImage(picture, 0, 0, columns, rows);
  return run();
}

// The class of a pixel of a label map: the nearest colour, or in a grey picture the number itself.
function class_of(red, green, blue) {
  let best = 0, least = Infinity;
  facts.colours.forEach(([r, g, b], place) => {
    const distance = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
    if (distance < least) [best, least] = [place, distance];
  });
  return red === green && green === blue && least > 0 && red < facts.colours.length ? red : best;
}

function tensor(network) {
  const canvas = at("input"), count = canvas.width * canvas.height;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const values = new (network.dtype === "uint8" ? Uint8Array : Float32Array)(network.channels * count);
  const [by, add] = network.encode;
  if (network.kind === "labels") {
    const [zero, one] = [add[0], by[0] + add[0]];
    values.fill(zero);
    for (let i = 0; i < count; i++) values[class_of(pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]) * count + i] = one;
  } else {
    for (let c = 0; c < network.channels; c++) {
      const [factor, summand] = [by[c % by.length], add[c % add.length]];
      for (let i = 0; i < count; i++) {
        const level = network.channels === 3 ? pixels[4 * i + c] : Math.round(0.299 * pixels[4 * i] + 0.587 * pixels[4 * i + 1] + 0.114 * pixels[4 * i + 2]);
        values[c * count + i] = level * factor + summand;
      }
    }
  }
  return new ort.Tensor(network.dtype, values, [1, network.channels, canvas.height, canvas.width]);
}

function paint(canvas, network, image) {
  const [, channels, rows, columns] = image.dims, count = rows * columns, [by, add] = network.decode;
  const pixels = new ImageData(columns, rows);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) {
      const from = channels < 3 ? 0 : c;
      pixels.data[4 * i + c] = Math.round(image.data[from * count + i] * by[from % by.length] + add[from % add.length]);
    }
    pixels.data[4 * i + 3] = 255;
  }
  [canvas.width, canvas.height] = [columns, rows];
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

async function once(place) {
  const session = demo.sessions[place], input = tensor(facts.networks[place]), start = performance.now();
  const found = await session.run({ [session.inputNames[0]]: input });
  const image = found[session.outputNames[0]];
  await image.getData?.();  // from the graphics card
  return [image, performance.now() - start];
}

let busy = Promise.resolve(), warm = "";
function run() {  // one after the other
  busy = busy.then(async () => {
    const size = `${at("input").width}x${at("input").height}`;
    if (warm !== size) {  // the first run of a size compiles and makes room: its time says nothing
      for (const place of facts.networks.keys()) await once(place);
      [warm, demo.times] = [size, {}];
    }
    for (const [place, network] of facts.networks.entries()) {
      const [image, time] = await once(place);
      demo.times[network.name] = [...demo.times[network.name] ?? [], time].slice(-KEPT);
      demo.outputs[network.name] = image;
      if (place < 2) paint(at(["first", "second"][place]), network, image);
    }
    figures();
  });
  return busy;
}

const amount = bytes => bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
const median = times => [...times].sort((a, b) => a - b)[times.length >> 1];

async function measure() {
  const interleaved = Object.fromEntries(facts.networks.map(network => [network.name, []]));
  for (let round = -2; round < ROUNDS; round++) {  // the first two warm up
    for (const [place, network] of facts.networks.entries()) {
      const [, time] = await once(place);
      if (round >= 0) interleaved[network.name].push(time);
    }
    at("status").textContent = `Measuring, round ${Math.max(0, round + 1)} of ${ROUNDS} ...`;
  }
  const [first, second] = facts.networks.map(network => median(interleaved[network.name]));
  const canvas = at("input");
  demo.measured = {
    kind: "ganshrink browser measurement", run: facts.name, when: new Date().toISOString(), runtime: `onnxruntime-web ${facts.runtime}`,
    provider: demo.provider, threads: demo.threads, browser: navigator.userAgent, cores: navigator.hardwareConcurrency,
    input: [facts.networks[0].channels, canvas.height, canvas.width], ratio: second ? first / second : null,
    networks: facts.networks.map(network => ({ name: network.name, bytes: network.bytes, p50_ms: median(interleaved[network.name]), ms: interleaved[network.name] })),
  };
  demo.times = interleaved;
  figures();
  status();
  at("save").disabled = false;
}

const several = ratio => ratio >= 1 ? `${ratio.toFixed(1)}× faster` : `${(1 / ratio).toFixed(1)}× slower`;

function figures() {
  const first = facts.networks[0].name;
  at("figures").replaceChildren(...facts.networks.map(network => {
    const row = document.createElement("tr"), time = demo.times[network.name] && median(demo.times[network.name]);
    const cells = [network.name, amount(network.bytes), time ? `${time.toFixed(1)} ms` : "", time ? `${(1000 / time).toFixed(1)} fps` : "",
      time && network.name !== first ? several(median(demo.times[first]) / time) : ""];
    cells.forEach((text, place) => {
      const cell = document.createElement(place ? "td" : "th");
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  }));
}

// The camera's pictures one after the other, cut to the shape at which they are run, until it is stopped.
let camera = null;
async function film() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
  camera = stream;
  at("camera").textContent = "Stop the camera";
  try {
    await video.play();
    while (camera === stream) {
      const [rows, columns] = size_of(video.videoWidth, video.videoHeight);
      const by = Math.min(video.videoWidth / columns, video.videoHeight / rows), frame = document.createElement("canvas");
      [frame.width, frame.height] = [columns, rows];
      frame.getContext("2d").drawImage(video, (video.videoWidth - by * columns) / 2, (video.videoHeight - by * rows) / 2, by * columns, by * rows, 0, 0, columns, rows);
      await show(frame);
      status();
      await new Promise(requestAnimationFrame);  // the page stays usable
    }
  } finally {
    stop(stream);
  }
}

function stop(stream = camera) {
  stream?.getTracks().forEach(track => track.stop());
  if (camera !== stream) return;
  camera = null;
  at("camera").textContent = "Use the camera";
}

function status() {
  const where = demo.provider === "webgpu" ? "WebGPU" : `WebAssembly, ${demo.threads} thread${demo.threads > 1 ? "s" : ""}`;
  const canvas = at("input");
  at("status").textContent = `${where}, ${canvas.width}×${canvas.height} pixels${demo.measured ? `, median of ${ROUNDS} runs` : ""}.`;
}

function opened(source) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error("this is no picture that the browser reads"));
    image.src = source;
  });
}

const told = action => async (...given) => {  // what goes wrong is said on the page
  try { await action(...given); } catch (error) { at("status").textContent = `Error: ${error.message || error}`; demo.error = error; }
};
const open_file = told(async file => { if (file) { stop(); await show(await opened(URL.createObjectURL(file))); status(); } });

function wire() {
  at("input").classList.toggle("pixels", facts.colours.length > 0);
  at("first-name").textContent = facts.networks[0].name;
  at("second-name").textContent = facts.networks[1]?.name ?? "";
  at("file").addEventListener("change", event => open_file(event.target.files[0]));
  at("measure").addEventListener("click", told(() => { stop(); return busy.then(measure); }));
  at("camera").hidden = !navigator.mediaDevices || facts.colours.length > 0;
  at("camera").addEventListener("click", told(() => camera ? stop() : film()));
  at("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(demo.measured, null, 2)], { type: "application/json" }));
    link.download = "measured.json";
    link.click();
  });
  document.body.addEventListener("dragover", event => { event.preventDefault(); at("drop").classList.add("over"); });
  document.body.addEventListener("dragleave", () => at("drop").classList.remove("over"));
  document.body.addEventListener("drop", event => {
    event.preventDefault();
    at("drop").classList.remove("over");
    open_file(event.dataTransfer.files[0]);
  });
  for (const [place, sample] of facts.samples.entries()) {
    const button = document.createElement("button"), image = document.createElement("img");
    image.src = sample;
    image.alt = `sample ${place + 1}`;
    button.append(image);
    button.addEventListener("click", told(async () => { stop(); await show(await opened(sample)); status(); }));
    at("samples").append(button);
  }
  brush();
}

function brush() {  // draws classes onto a label map
  let colour = null;
  for (const [place, levels] of facts.colours.entries()) {
    const button = document.createElement("button");
    button.style.background = `rgb(${levels})`;
    button.title = `class ${place}`;
    button.setAttribute("aria-label", `draw class ${place}`);
    button.addEventListener("click", () => {
      colour = `rgb(${levels})`;
      for (const other of at("classes").children) other.setAttribute("aria-pressed", other === button);
    });
    at("classes").append(button);
  }
  const canvas = at("input");
  let drawing = false;
  const draw = event => {
    if (!drawing || !colour) return;
    const box = canvas.getBoundingClientRect(), context = canvas.getContext("2d"), side = Math.max(2, Math.round(canvas.width / 16));
    context.fillStyle = colour;
    const x = (event.clientX - box.left) / box.width * canvas.width, y = (event.clientY - box.top) / box.height * canvas.height;
    context.fillRect(Math.round(x - side / 2), Math.round(y - side / 2), side, side);
  };
  if (facts.colours.length) canvas.style.touchAction = "none";
  canvas.addEventListener("pointerdown", event => { drawing = true; draw(event); });
  canvas.addEventListener("pointermove", draw);
  addEventListener("pointerup", told(async () => { if (drawing && colour) await run(); drawing = false; }));
}

wire();
demo.ready = (async () => {
  await load();
  if (facts.samples.length) await show(await opened(facts.samples[0]));
  else {
    const [rows, columns] = facts.networks[0].size, blank = document.createElement("canvas");
    [blank.width, blank.height] = [columns, rows];
    blank.getContext("2d").fillRect(0, 0, columns, rows);
    await show(blank);
  }
  status();
})();
demo.ready.catch(error => { at("status").textContent = `Error: ${error.message || error}`; demo.error = error; });
globalThis.demo = demo;
