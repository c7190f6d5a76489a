"""For MkDocs: what docs/ links to elsewhere in the repository is on GitHub, as the site holds only docs/."""

import re

OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")


def on_page_markdown(markdown: str, config, **kwargs) -> str:
    return OUTSIDE.sub(lambda link: f"]({config['repo_url']}/blob/main/{link[1]}", markdown)
