"""
What `chat_template.py` runs, in a process that has limits and imports nothing but Jinja: chat templates, rendered.

Reads lines of JSON with `template` and `variables`, and answers each with a line: `text`, or `error`, the end of a
sentence. The environment is that of transformers (`_compile_jinja_template` in `utils/chat_template_utils.py`).
"""

import json
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache

sys.path += sys.argv[1:]

import jinja2  # noqa: E402
from jinja2.ext import Extension, loopcontrols  # noqa: E402
from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: E402

SECONDS = 2  # of the processor, for a request
BYTES = 512 * 2**20  # of memory
CHARACTERS = 4 * 10**6  # of text


class Generation(Extension):
    """`{% generation %}` marks what the model learns; here it is what stands in it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    def _inside(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    """Jinja's, without names that begin with an underscore."""

    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            require_plain(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        require_plain(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


def require_plain(name) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name!r}")


class Dict:
    """`dict`, and nothing of the class that it is."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def strftime_now(form):
    return datetime.now().strftime(form)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=8)
def compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    environment.globals |= {"dict": Dict(), "namespace": Namespace}
    return environment.from_string(template)


def render(template: str, variables: dict) -> dict:
    pieces, length = [], 0
    try:
        for piece in compiled(template).generate(variables):
            pieces.append(piece)
            length += len(piece)
            if length > CHARACTERS:
                return {"error": f"was stopped, as it writes more than {CHARACTERS} characters"}
    except MemoryError:
        pieces.clear()
        return {"error": f"was stopped, as it takes more than {BYTES >> 20} MB to render"}
    except Exception as error:  # a template may raise anything
        reason = " ".join(str(error)[:300].split()).rstrip(".") or type(error).__name__
        return {"error": f"cannot render this conversation ({reason})"}
    return {"text": "".join(pieces)}


def limit() -> None:
    """
    Memory and the size of files for good, and the processor's time anew for each request, as far as the system can
    limit them: Windows cannot, macOS not the memory. What is left there is the parent's patience.
    """
    try:
        import resource
    except ImportError:
        return
    for kind, most in ((resource.RLIMIT_AS, BYTES), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # lower already, or not to be had
            resource.setrlimit(kind, (most, most))


def grant_time() -> None:
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + SECONDS, hard))


def main() -> None:
    limit()
    for line in sys.stdin:
        grant_time()
        try:
            answer = render(**json.loads(line))
        except RecursionError:
            answer = {"error": "is nested too deeply"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
