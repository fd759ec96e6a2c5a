// Pictures: a slider between teacher and student, and each one enlarged in a window that leads to those beside it.
function slides(slider) {
  const range = slider.querySelector("input"), slide = () => slider.style.setProperty("--at", range.value + "%");
  range.addEventListener("input", slide);
  slide();
}
for (const slider of document.querySelectorAll(".slider")) slides(slider);

const rows = [...document.querySelectorAll(".pictures tr")].map(row => [...row.querySelectorAll("img")]).filter(row => row.length);
if (rows.length && window.HTMLDialogElement) {
  const make = (tag, parent, more) => parent.appendChild(Object.assign(document.createElement(tag), more));
  const dialog = make("dialog", document.body, { className: "zoom" });
  const bar = make("p", dialog), views = make("div", bar, { className: "views" });
  make("button", bar, { textContent: "Close", onclick: () => dialog.close() });
  const stage = make("div", dialog, { className: "stage" }), foot = make("p", dialog, { className: "note" });
  const title = make("span", foot), ways = make("span", foot, { className: "views" });
  const turn = by => { place = (place + by + rows.length) % rows.length; draw(); };
  if (rows.length > 1) for (const [text, label, by] of [["\u2190", "the input before", -1], ["\u2192", "the next input", 1]])
    make("button", ways, { textContent: text, ariaLabel: label, onclick: () => turn(by) });
  const column = image => image.closest("td").dataset.column;
  let place = 0, view = "";
  const picture = (image, parent, more) => {
    const shown = make("img", parent, { src: image.src, alt: image.alt, ...more });
    if (image.naturalWidth < 320) shown.classList.add("pixels");  // enlarged further than a screen smooths well
    return shown;
  };
  const draw = () => {
    const row = rows[place], of = Object.fromEntries(row.map(image => [column(image), image]));
    const names = Object.keys(of).concat(of.teacher && of.student ? ["slider"] : []);
    if (!names.includes(view)) view = names[0];
    views.replaceChildren(...names.map(name => Object.assign(document.createElement("button"), {
      textContent: name === "slider" ? "teacher | student" : name, ariaPressed: name === view, onclick: () => { view = name; draw(); },
    })));
    stage.replaceChildren();
    if (view === "slider") {
      const slider = make("div", stage, { className: "slider" });
      picture(of.student, slider);
      picture(of.teacher, slider, { className: "over" });
      make("input", slider, { type: "range", min: 0, max: 100, value: 50, ariaLabel: "from student to teacher" });
      slides(slider);
    } else picture(of[view], stage, { onclick: () => step(1) });
    const name = row[0].closest("tr").dataset.name;
    title.textContent = `${name}, ${place + 1} of ${rows.length}`;
  };
  const step = by => {
    const names = [...views.children];
    const next = names.findIndex(button => button.ariaPressed === "true") + by;
    names[(next + names.length) % names.length].click();
  };
  dialog.addEventListener("keydown", event => {
    if (event.target.type === "range" && /Left|Right/.test(event.key)) return;  // those move the slider
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    if (/Left|Right/.test(event.key)) step(by);
    else turn(by);
  });
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  const open = (at, name) => { [place, view] = [at, name]; draw(); dialog.showModal(); };
  const opens = (image, at, name) => {
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.addEventListener("click", () => open(at, name));
    image.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(at, name); }
    });
  };
  rows.forEach((row, at) => { for (const image of row) opens(image, at, column(image)); });
  const first = document.querySelector(".pair [data-column=input]");
  if (first) opens(first, 0, "input");
  for (const note of document.querySelectorAll(".enlarge")) note.hidden = false;
}
