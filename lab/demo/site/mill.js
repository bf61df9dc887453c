// Draws a loom at work on pages that have a canvas: indigo warp, white weft.
(() => {
  const canvas = document.getElementById("loom");
  if (!canvas) return;
  const g = canvas.getContext("2d");
  const size = 10, columns = canvas.width / size, rows = canvas.height / size;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const over = (x, y) => (x + y) % 4 !== 0; // a 3/1 twill
  function pick(y, upTo) {
    for (let x = 0; x < upTo; x++) {
      g.fillStyle = over(x, y) ? "#27406b" : "#f6f1e7";
      g.fillRect(x * size + 1, y * size + 1, size - 2, size - 2);
    }
    g.fillStyle = "#b3322c";
    g.fillRect(0, y * size, 3, size);
    g.fillRect(canvas.width - 3, y * size, 3, size);
  }
  if (still) {
    for (let y = 0; y < rows; y++) pick(y, columns);
    return;
  }
  let y = 0, x = 0;
  function step() {
    x += 3;
    pick(y, Math.min(x, columns));
    if (x >= columns) { x = 0; y++; }
    if (y < rows) requestAnimationFrame(step);
  }
  requestAnimationFrame(step);
})();
