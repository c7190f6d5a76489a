"""
What the pages look like: one palette, blue for label 0 and orange for label 1, which people with any colour vision
tell apart, with text that has a contrast of at least 4.5 to 1 (WCAG AA) in light and in dark.
"""

CSS = """
:root { --label-0: #9ecae9; --label-1: #fdae6b; --line-0: #1f6fb2; --line-1: #b45309; --quiet: #4b5563; }
.dark { --label-0: #1c4f82; --label-1: #8a4107; --line-0: #7fbcf0; --line-1: #fdae6b; --quiet: #b6bcc6; }
.gradio-container { width: 100%; max-width: 1080px !important; margin-inline: auto !important; }
#header .html-container, #footer .html-container, .examples-of .html-container { padding: 0; }
#header h1 { font-size: 26px; line-height: 1.25; margin: 8px 0 2px; }
#header p { margin: 4px 0; max-width: 70ch; line-height: 1.5; }
#header .model, #footer { color: var(--quiet); font-size: 14px; overflow-wrap: anywhere; }
#header .model b { color: var(--body-text-color); }
#footer { text-align: center; padding: 12px 0; }
#footer a { color: inherit; text-decoration: underline; padding: 4px 0 !important; }
footer { display: none !important; }
.examples-of { gap: 6px !important; }
.examples { gap: 8px !important; flex-wrap: wrap; align-items: stretch; }
button.example { flex: 1 1 240px; min-width: min(240px, 100%) !important; font-weight: 400; font-size: 14px;
    line-height: 1.35; text-align: start; justify-content: flex-start; white-space: pre-line; overflow-wrap: anywhere;
    padding: 8px 12px; min-height: 44px; border: 1px solid var(--border-color-primary); }
@media (max-width: 600px) {  /* side by side, so that what they show is not far below them */
  .examples { flex-wrap: nowrap !important; overflow-x: auto; padding: 4px; }
  button.example { flex: 0 0 82%; }
  #settings .head { flex-wrap: wrap; }
  #settings .head label { flex: 1 0 100%; }
}
.quiet { color: var(--quiet); font-size: 14px; line-height: 1.5; }
button:focus-visible, a:focus-visible, [tabindex]:focus-visible, input:focus-visible, textarea:focus-visible {
    outline: 3px solid var(--line-0) !important; outline-offset: 1px; }
input[type=range] { min-height: 24px; }
input[type=range]::-webkit-slider-thumb { background-color: var(--line-0) !important; }
input[type=range]::-moz-range-thumb { background-color: var(--line-0) !important; }
[role=tab][aria-selected=true] { color: var(--line-0) !important; }
"""
QUIET = {"light": "#4b5563", "dark": "#b6bcc6"}  # labels and hints; Gradio's own grey is too pale


def theme(gradio):
    """The package Gradio's default theme with blue buttons and darker labels, and with fonts that every system has."""
    look = gradio.themes.Default(primary_hue="blue", neutral_hue="gray", font="system-ui", font_mono="monospace")
    quiet = {
        f"{name}{suffix}": QUIET[mode]
        for name in (
            "body_text_color_subdued",
            "block_label_text_color",
            "block_title_text_color",
            "block_info_text_color",
        )
        for suffix, mode in (("", "light"), ("_dark", "dark"))
    }
    blue = {
        f"button_primary_{part}{suffix}": colour
        for suffix in ("", "_dark")
        for part, colour in {
            "background_fill": "#1d4ed8",
            "background_fill_hover": "#1e40af",
            "border_color": "#1d4ed8",
            "text_color": "white",
        }.items()
    }
    links = {f"link_text_color{state}": "#1d4ed8" for state in ("", "_hover", "_active", "_visited")}
    links |= {f"{name}_dark": "#93c5fd" for name in links}
    return look.set(
        **quiet, **links, **blue, input_placeholder_color="#6b7280", input_placeholder_color_dark="#9ca3af"
    )
