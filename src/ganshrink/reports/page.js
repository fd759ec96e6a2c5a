// The pictures at the top: a slider between teacher and student, and any row of the table below on a click.
const hero = document.querySelector(".pair");
if (hero) {
  const slider = hero.querySelector(".slider"), range = slider.querySelector("input");
  const slide = () => slider.style.setProperty("--at", range.value + "%");
  range.addEventListener("input", slide);
  slide();
  for (const row of document.querySelectorAll(".pictures tr[data-name]")) {
    row.addEventListener("click", () => {
      for (const image of hero.querySelectorAll("img[data-column]")) {
        const other = row.querySelector(`td[data-column="${image.dataset.column}"] img`);
        if (other) { image.src = other.src; image.alt = other.alt; }
      }
      hero.scrollIntoView({ behavior: "smooth", block: "nearest" });
    });
  }
}
