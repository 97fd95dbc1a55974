"""Template injection: payloads are bytes when they are data, and refused when they are workflow text (Z1)."""

from __future__ import annotations

from typing import Any

import pytest

from dagmaster.dag.conditions import compile_comparison, compile_condition
from dagmaster.dag.expressions import compile_template
from dagmaster.dag.scope import DictScope
from dagmaster.errors import ExpressionFailed, ExpressionInvalid

PAYLOADS = [
    "{{ ''.__class__ }}", "{{ ''.__class__.__mro__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ [].__class__.__base__.__subclasses__() }}", "{{ {}.__class__.__bases__[0] }}", "{{ ().__class__.__base__ }}",
    "{{ self }}", "{{ self._TemplateReference__context }}", "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}", "{{ joiner.__init__.__globals__.os }}",
    "{{ namespace.__init__.__globals__.os.system('id') }}", "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ lipsum.__globals__ }}", "{{ config }}", "{{ config.items() }}", "{{ request.application.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}", "{{ url_for.__globals__['current_app'].config }}", "{{ g.pop }}",
    "{{ session }}", "{{ dict(a=1) }}", "{{ range(9) }}", "{{ open('/etc/passwd').read() }}", "{{ eval('1') }}",
    "{{ exec('import os') }}", "{{ __import__('os').system('id') }}", "{{ __builtins__ }}", "{{ globals() }}",
    "{{ env.PATH }}", "{{ environ }}", "{{ os.environ }}", "{{ secrets.token }}", "{{ inputs.__class__ }}",
    "{{ inputs.x.__class__.__init__ }}", "{{ inputs.items() }}", "{{ inputs.get('x') }}", "{{ inputs['__class__'] }}",
    "{{ inputs | attr('__class__') }}", "{{ '' | attr('__class__') }}", "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ''['__class__'] }}", "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}", "{{ '%c' % 65 }}", "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__}' | format(1) }}", "{{ [1] | map('string') | list }}", "{{ [1] | map(attribute='real') }}",
    "{{ x | safe }}", "{{ 'a' | xmlattr }}", "{{ [] | groupby('x') }}", "{{ 'x' | pprint }}", "{{ 'a' | urlize }}",
    "{{ [1] | select('odd') }}", "{{ [1] | random }}", "{{ 'a' | e }}", "{{ 1 is sameas 1 }}", "{{ 1 is callable }}",
    "{{ 1 is divisibleby 1 }}", "{% for c in [].__class__ %}{% endfor %}", "{% set x = 1 %}", "{% import 'os' as o %}",
    "{% include '/etc/passwd' %}", "{% extends 'x' %}", "{% macro m() %}{% endmacro %}", "{% raw %}x{% endraw %}",
    "{% if 1 %}x{% endif %}", "{# comment #}", "{{ loop.index }}", "{{ caller() }}", "{{ varargs }}", "{{ (lambda: 1)() }}",
    "{{ [x for x in (1)] }}", "{{ inputs.x := 1 }}", "{{ nodes }}", "{{ nodes.__class__ }}", "{{ nodes.n.__class__ }}",
    "{{ nodes[inputs.x].output }}", "{{ job }}", "{{ job.__class__ }}", "{{ job.id.__class__ }}", "{{ 1", "{{ }}", "{{ ${7*7} }}",
]  # fmt: skip
READ = [
    "{{ inputs.x }}", "{{ item }}", "{{ item.blob }}", "{{ nodes.n.output.error }}", "{{ inputs['x'] ~ '' }}",
    "{{ inputs.x | default('') }}", "{{ [inputs.x] | first }}", "{{ inputs.x | trim | string }}",
]  # fmt: skip
OTHERS = [
    "${7*7}",
    "<%= 7*7 %>",
    "#{7*7}",
    "*{7*7}",
    "@(7*7)",
    "{7*7}",
    "$(id)",
    "`id`",
    "';DROP TABLE jobs;--",
    "%s%n",
]


def test_the_corpus_is_large_enough() -> None:
    assert len(set(PAYLOADS)) >= 60


@pytest.mark.parametrize("payload", PAYLOADS + OTHERS)
def test_a_payload_that_arrives_as_data_stays_literal_bytes(payload: str) -> None:
    values: dict[str, Any] = {"x": payload}
    for text in READ:
        item: Any = {"blob": payload} if ".blob" in text else payload
        scope = DictScope(values, {"n": {"error": payload}}, item=item, index=0)
        assert compile_template({"param": text})(scope) == {"param": payload}
        mixed = compile_template(f"[{text}]")(scope)
        assert mixed == f"[{payload}]"
        assert compile_template("{{ item }}")(DictScope(item=mixed)) == mixed


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_as_workflow_text_is_refused(payload: str) -> None:
    scope = DictScope({"x": "v"}, {"n": {}}, job_id="J")
    with pytest.raises((ExpressionInvalid, ExpressionFailed)):
        compile_template(payload)(scope)
    with pytest.raises((ExpressionInvalid, ExpressionFailed)):
        compile_condition(payload)(scope)
    with pytest.raises((ExpressionInvalid, ExpressionFailed)):
        compile_comparison("{{ inputs.x }}", f"== {payload}")(scope)


@pytest.mark.parametrize("key", ["__class__", "__dict__", "items", "keys", "get", "pop", "mro", "real"])
def test_a_dot_reads_a_key_and_never_an_attribute(key: str) -> None:
    made = compile_template(f"{{{{ inputs.x.{key} }}}}")
    assert made(DictScope({"x": {key: "the key"}})) == "the key"
    values: list[Any] = [{}, [], "text", 1, None]
    for value in values:
        with pytest.raises(ExpressionFailed):
            made(DictScope({"x": value}))
