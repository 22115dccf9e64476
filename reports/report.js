"use strict";
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const items = JSON.parse(document.getElementById("plots").textContent);

  // Bokeh paints on a canvas, where the page's style sheet does not reach.
  function paint(isDark) {
    const ink = isDark ? "#c9d1d9" : "#3b434b";
    const line = isDark ? "#3a424b" : "#dfe3e8";
    for (const doc of Bokeh.documents) {
      for (const model of doc._all_models.values()) {
        if (model.type.endsWith("Axis")) {
          model.setv({axis_label_text_color: ink, major_label_text_color: ink, axis_line_color: ink,
            major_tick_line_color: ink, minor_tick_line_color: null});
        } else if (model.type === "Grid") {
          model.setv({grid_line_color: line});
        } else if (model.type === "Text") {
          model.setv({text_color: ink});
        } else if (model.type === "Legend") {
          model.setv({label_text_color: ink});
        }
      }
    }
  }

  // Fits the current axis to the samples in view, so that a zoom into sleep shows microamperes.
  function fit(doc, id) {
    const view = doc.get_model_by_name(id + "-time");
    const axis = doc.get_model_by_name(id + "-current");
    const samples = doc.get_model_by_name(id + "-samples");
    const time = samples.get_array("time");
    const current = samples.get_array("current");
    let low = Infinity;
    let high = -Infinity;
    for (let i = 0; i < time.length; i++) {
      if (time[i] >= view.start && time[i] <= view.end && Number.isFinite(current[i])) {
        low = Math.min(low, current[i]);
        high = Math.max(high, current[i]);
      }
    }
    if (low > high) { return; }
    if (axis.tags.includes("logarithmic")) {
      axis.setv({start: low / 1.5, end: high * 1.5});
    } else {
      const margin = 0.06 * (high - low) || 0.1 * Math.abs(high) || 1;
      axis.setv({start: low - margin, end: high + margin});
    }
  }

  function zoom(event) {
    const button = event.currentTarget;
    for (const doc of Bokeh.documents) {
      const range = doc.get_model_by_name(button.dataset.range);
      if (range) {
        range.setv({start: Number(button.dataset.start), end: Number(button.dataset.end)});
      }
    }
  }

  async function draw() {
    for (const item of items) {
      await Bokeh.embed.embed_item(item);
      const doc = Bokeh.documents.find((one) => one.get_model_by_name(item.target_id + "-time"));
      const view = doc.get_model_by_name(item.target_id + "-time");
      view.change.connect(() => fit(doc, item.target_id));
      fit(doc, item.target_id);
    }
    paint(dark.matches);
    for (const button of document.querySelectorAll("button[data-range]")) {
      button.addEventListener("click", zoom);
    }
    document.documentElement.dataset.plots = "drawn";
  }

  dark.addEventListener("change", () => paint(dark.matches));
  window.addEventListener("beforeprint", () => {
    paint(false);
    for (const part of document.querySelectorAll("details")) { part.open = true; }
  });
  window.addEventListener("afterprint", () => paint(dark.matches));
  draw();
})();
