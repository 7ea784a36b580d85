#!/usr/bin/env python3
"""What transformers renders of chat templates: tests/parity/chat_templates.json.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install transformers==5.23.0 jinja2==3.1.6
    .setup/bench/bin/python scripts/bench/parity_chat_templates.py

Short templates that use what real ones use. A template that transformers refuses has no text.
"""

import json
from pathlib import Path

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = Path(__file__).parents[2]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "<sep>", "cls_token": "<cls>"}
CHATS = [
    [{"role": "user", "content": "  Is it <b> & \u00e9 \"x\" it's?\n"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"},
     {"role": "assistant", "content": "<think>hm</think>\nYes."}, {"role": "user", "content": "Two"}],
]
LOOP = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
TEMPLATES = [
    "{% if tools is not none %}TOOLS{{ tools|length }}\n{% endif %}" + LOOP,
    "{{ sep_token }}{{ cls_token }}|" + LOOP + "{% if add_generation_prompt %}assistant:\n{% endif %}",
    "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %}\n{% endfor %}",
    "{{ messages[0]['content'] | tojson }} {{ {'b': '<b> & \u00e9', 'a': [1, 2.0, none, true]} | tojson }}",
    "{{ {'b': 1, 'a': [1, {}]} | tojson(indent=2, sort_keys=true) }}{{ [1, []] | tojson(separators=(',', ':')) }}",
    "{{ none }}|{{ true }}|{{ [1, 'a', none, 2.5] }}|{{ {'b': 1, 'a': false} }}|{{ 1e20 }}|{{ nope }}|{{ 3 / 2 }}|{{ 4 / 2 }}",
    "{{ 'x' ~ none ~ true ~ [1] }}|{{ '%s-%d' % ('a', 3) }}|{{ 'ab' * 2 }}|{{ 7 % 3 }}|{{ 1 + 2.0 }}|{{ [1] + [2] }}",
    "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ m.role }}{% if loop.last %}{% break %}{% endif %},{% endfor %}",
    "{% set ns = namespace(s='', n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s + m.content[:2] %}{% endfor %}{{ ns.n }}{{ ns.s }}",
    "{% for m in messages %}{{ m.content.split('</think>')[-1].lstrip('\\n').strip() }}|{{ m.role.title() }}|{{ m.content.startswith('T') }}\n{% endfor %}",
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{{ messages | map(attribute='role') | join(', ') }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}|{{ messages | map(attribute='role') | unique | list }}|{{ [3, 1] | sort | first }}",
    "{{ messages[0].content is string }}{{ messages is iterable }}{{ messages[0] is mapping }}{{ x is defined }}{{ documents is none }}{{ 'a' is sequence }}{{ messages[0].name is not defined }}",
    "{% macro turn(m) %}[{{ m.role }}]{{ m.content | trim }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}{% raw %}{% generation %}{% endraw %}{# {% generation %} #}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v | trim }};{% endfor %}{{ messages[0].get('x', 'no') }}{% for k, v in {'b': 2, 'a': 1} | dictsort %}{{ k }}{{ v }}{% endfor %}{% for k, v in {'b': 2, 'a': 1} | items %}{{ k }}{{ v }}{% endfor %}",
    "  {% if true %}\n    a\n  {% endif %}\n{%- if false %}b{% endif -%}\n c\n",
    "a\r\nb {{ 'x\ty' }}\r\n" + LOOP,
    "{{ 'it is'.replace('i', 'I', 1) }}|{{ 'a,b,c'.rsplit(',', 1) }}|{{ 'x'.center(4) }}|{{ '{} {}'.format(1, none) }}|{{ 'abc' | replace('b', 'z') | upper }}|{{ 'a\nb' | indent(2) }}|{{ 'ab'.find('b') }}",
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + LOOP,
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{{ messages[0].content.append }}{{ nope.x }}",
    "{{ 'a' + 1 }}",
]


def main():
    rows = []
    for template in TEMPLATES:
        for chat in CHATS:
            try:
                text = render_jinja_template([chat], chat_template=template, add_generation_prompt=True, **TOKENS)[0][0]
            except Exception:
                text = None
            rows.append({"template": template, "messages": chat, "text": text})
    out = {"transformers": transformers.__version__, "tokens": TOKENS, "cases": rows}
    (ROOT / "tests/parity/chat_templates.json").write_text(json.dumps(out, indent=1) + "\n")
    print(len(rows), sum(row["text"] is None for row in rows))


if __name__ == "__main__":
    main()
