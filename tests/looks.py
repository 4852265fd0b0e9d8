"""How a page looks in a browser: on which window and theme, what sticks out, and which texts are too faint."""

from typing import Any

LEAST_CONTRAST = 4.5
"""Of a text against its ground, by WCAG 2.2, 1.4.3."""

OVERFLOW = """
const isInside = one => one.closest('.scroll > *') || one.getBoundingClientRect().right <= innerWidth + 1;
const outside = [...document.body.querySelectorAll('*')].filter(one => !isInside(one));
return [innerWidth, ...outside.map(one => one.outerHTML)];
"""

FAINT_TEXTS = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const pixel = (...colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = ([...rgb]) => rgb.slice(0, 3).map(value => value / 255)
  .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
  .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
const base = document.createElement('div');
base.style.background = 'Canvas';
document.body.append(base);
const lowest = getComputedStyle(base).backgroundColor;
base.remove();
const found = [];
for (const element of document.body.querySelectorAll('*')) {
  const own = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join('');
  if (!own || !element.getClientRects().length || element.closest('script, style')) continue;
  const style = getComputedStyle(element), grounds = [];
  for (let one = element; one; one = one.parentElement) grounds.unshift(getComputedStyle(one).backgroundColor);
  const text = luminance(pixel(lowest, ...grounds, element instanceof SVGElement ? style.fill : style.color));
  const ground = luminance(pixel(lowest, ...grounds));
  const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
  if (contrast < arguments[0]) found.push(`${contrast.toFixed(2)}: ${own}`);
}
return found;
"""


def emulate(driver: Any, width: int, theme: str, height: int = 900) -> None:
    """Gives a browser a window, that of a telephone where it is narrow, and the theme `light` or `dark`."""
    window = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def find_overflow(driver: Any) -> list[Any]:
    """Returns the width that a page takes, and what sticks out of it; what scrolls by itself does not."""
    return list(driver.execute_script(OVERFLOW))


def find_faint_texts(driver: Any) -> list[str]:
    """Returns the texts of a page that have too little contrast, each with how much."""
    return list(driver.execute_script(FAINT_TEXTS, LEAST_CONTRAST))
