"""OpenSLO v1 documents into SLO definitions, or into what stands in the way: each fault with its file, line, name and field.

Alert policies, labels other than the owner's and annotations are passed over: an SLO has none here. So are objects that are neither an SLO
nor the SLI of one. Source: github.com/OpenSLO/OpenSLO, README, "SLO", "Objectives" and "SLI".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import yaml
from pydantic_core import PydanticCustomError

from worker.domain.aggregate import SLO, intent_name
from worker.domain.error_budget import OCCURRENCES, RATIO_TIMESLICES, TIMESLICES
from worker.domain.fields import EPOCH
from worker.domain.outcome import Context
from worker.domain.parsing import parse_fields
from worker.integrations.located_yaml import Document, Note, Part, UnreadableError, part_of, plain, read_documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.domain.slo import CreateSLO, UpdateSLO

_VERSION: Final = "openslo/v1"
_WINDOWS: Final = {"7d": "7d", "1w": "7d", "28d": "28d", "4w": "28d", "30d": "30d"}
_METHODS: Final = {"Occurrences": OCCURRENCES, "Timeslices": TIMESLICES, "RatioTimeslices": RATIO_TIMESLICES}
_SLICES: Final = {"1m": 60, "1": 60, "5m": 300, "5": 300}  # a plain number is in minutes
_NUMBER: Final = re.compile(r"(?=.{1,20}\Z)(\d+\.?\d*|\.\d+)", re.ASCII)

_SPEC: Final = ("description", "service", "indicator", "indicatorRef", "timeWindow", "budgetingMethod", "objectives", "alertPolicies")
_OBJECTIVE: Final = ("displayName", "op", "value", "target", "targetPercent", "timeSliceTarget", "timeSliceWindow")
_COMPOSITE: Final = ("indicator", "indicatorRef", "compositeWeight")
_RATIO: Final = ("counter", "good", "bad", "total", "raw", "rawType")


@dataclass(frozen=True, slots=True)
class Definition:
    slo_id: str
    command: CreateSLO | UpdateSLO


@dataclass(frozen=True, slots=True)
class Reading:
    """`definitions` are those of the SLOs without a fault, in their order; `skipped` objects are of kinds that define no SLO."""

    definitions: tuple[Definition, ...]
    skipped: tuple[Note, ...]
    refusals: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of a command by the names that the domain's violations use, and where in the document each comes from."""

    values: dict[str, object] = field(default_factory=dict)
    places: dict[str, tuple[Part, str]] = field(default_factory=dict)

    def put(self, name: str, value: object, part: Part, key: str) -> None:
        self.places[name] = part, key
        if value is not None:
            self.values[name] = value

    def nested(self) -> dict[str, object]:
        prefix = "sli_spec."
        spec = {name.removeprefix(prefix): value for name, value in self.values.items() if name.startswith(prefix)}
        return {name: value for name, value in self.values.items() if not name.startswith(prefix)} | {"sli_spec": spec}


def read_openslo(files: Iterable[tuple[str, bytes]], command: type[CreateSLO | UpdateSLO], actor: str, owner: str | None = None) -> Reading:
    """The definitions of all files, each a name and its content in YAML or JSON, as commands of this type.

    An `indicatorRef` is looked for in all of them. An SLO's owner is its label `owner`, or else `team`, or else the `owner` given here.
    """
    refusals: list[Note] = []
    skipped: list[Note] = []
    slos: list[Part] = []
    slis: dict[str, Part] = {}
    documents: list[Document] = []
    order: dict[str, int] = {}
    for file, content in files:
        order[file] = len(order)
        try:
            documents += read_documents(file, content)
        except UnreadableError as error:
            refusals.append(Note(file, error.line, "the file", str(error)))
    for document in documents:
        _sort(document, slos, slis, skipped)
    counted = Counter(top.document.name for top in slos)
    definitions = []
    for top in slos:
        if (number := counted[top.document.name]) > 1:
            top.refuse("metadata", f"{number} SLOs of these files have this name")
        definition = _definition(top, slis, command, actor, owner)
        if definition is not None:
            definitions.append(definition)
    for document in documents:
        refusals += document.faults
    refusals.sort(key=lambda refusal: (order[refusal.file], refusal.line))
    return Reading(tuple(definitions), tuple(skipped), tuple(dict.fromkeys(refusals)))  # an SLI is looked at for each SLO that names it


def _sort(document: Document, slos: list[Part], slis: dict[str, Part], skipped: list[Note]) -> None:
    top = part_of(document, document.root, "")
    if top is None:
        return
    kind, version = top.text("kind", required=False), top.text("apiVersion", required=False)
    if kind is None or version is None:
        top.refuse("apiVersion" if version is None else "kind", "is missing: this is no OpenSLO document")
    elif kind not in ("SLO", "SLI"):
        skipped.append(document.note(top.node, f"kind {kind} defines no SLO"))
    elif version != _VERSION:
        top.refuse("apiVersion", f"{version} is not supported, only {_VERSION}")
    elif (metadata := top.part("metadata")) is None or metadata.text("name") is None:
        return
    elif kind == "SLO":
        slos.append(top)
    elif document.name in slis:
        metadata.refuse("name", "another SLI of these files has this name")
    else:
        slis[document.name] = top


def _definition(
    top: Part, slis: Mapping[str, Part], command: type[CreateSLO | UpdateSLO], actor: str, owner: str | None
) -> Definition | None:
    document, metadata, spec = top.document, top.part("metadata"), top.part("spec", _SPEC)
    if metadata is None or spec is None:
        return None
    try:
        SLO.check_id(document.name)
    except PydanticCustomError as error:
        metadata.refuse("name", f"{error.message()}, since it becomes the SLO's id")
    fields = _Fields({"actor": actor})
    fields.put("name", metadata.text("displayName", required=False) or document.name, metadata, "displayName")
    fields.put("description", spec.text("description", required=False), spec, "description")
    fields.put("scope", spec.text("service"), spec, "service")
    _put_owner(fields, metadata, owner)
    fields.put("window", _window(spec), spec, "timeWindow")
    method = spec.text("budgetingMethod")
    if method is not None and method not in _METHODS:
        spec.refuse("budgetingMethod", f"{method} is not one of {', '.join(_METHODS)}")
    fields.put("sli_spec.budgeting_method", _METHODS.get(method or "", ""), spec, "budgetingMethod")
    objective = spec.only_item("objectives", (*_OBJECTIVE, *_COMPOSITE), "write an SLO for each")
    if objective is not None:
        _put_target(fields, objective)
        _put_slices(fields, objective, method)
    ratio = _ratio(spec, slis)
    if ratio is not None:
        _put_queries(fields, ratio)
    return _checked(document, fields, command)


def _checked(document: Document, fields: _Fields, command: type[CreateSLO | UpdateSLO]) -> Definition | None:
    """The command, once the domain finds no fault in it; its faults are said of the fields that they came from."""
    faults: list[tuple[str, str, str]] = []
    parsed = parse_fields(SLO.intents[intent_name(command)], fields.nested(), faults)
    # A field that is not there at all was refused already, in OpenSLO's terms.
    wrong = [(name, message) for _, name, message in faults if name in fields.values]
    measured = {"sli_spec.good", "sli_spec.total"} <= fields.values.keys()
    if parsed is not None and measured and not document.faults:
        rejection = SLO.check(parsed, Context("", document.name, EPOCH))  # a definition's rules need neither tenant nor time
        wrong = [(fault.field, fault.message) for fault in rejection.violations] if rejection else []
    for name, message in wrong:
        part, key = fields.places[name]
        part.refuse(key, message)
    if parsed is None or not measured or document.faults:
        return None
    return Definition(document.name, parsed)


def _put_owner(fields: _Fields, metadata: Part, owner: str | None) -> None:
    labels = metadata.part("labels", required=False)
    if labels is None:
        labels = replace(metadata, values={}, keys={}, path=metadata.at("labels"))
    for key in ("owner", "team"):
        if (label := labels.values.get(key)) is not None:
            several = label.value if isinstance(label, yaml.SequenceNode) else [label]
            fields.put("owner", ", ".join(str(value.value) for value in several), labels, key)
            return
    fields.put("owner", owner, labels, "owner")
    if owner is None:
        labels.refuse("owner", "is missing, and so is team: label the SLO, or give an owner for all that have none")


def _window(spec: Part) -> str | None:
    supported = "rolling windows of 7d, 28d or 30d are (1w and 4w too)"
    window = spec.only_item("timeWindow", ("duration", "isRolling", "calendar"), supported)
    if window is None:
        return None
    rolling = window.text("isRolling", required=False)
    if "calendar" in window.values if rolling is None else rolling.lower() not in ("true", "yes", "on"):
        window.refuse("isRolling", f"calendar-aligned windows are not supported; {supported}")
    elif "calendar" in window.values:
        window.refuse("calendar", "means nothing for a rolling window: remove it")
    duration = window.text("duration")
    if duration is not None and duration not in _WINDOWS:
        window.refuse("duration", f"{duration} is not supported; {supported}")
    return _WINDOWS.get(duration or "")


def _put_target(fields: _Fields, objective: Part) -> None:
    for key in _COMPOSITE:
        if key in objective.values:
            objective.refuse(key, "composite SLOs are not supported")
    if "target" not in objective.values:
        fields.put("target", _percent(objective), objective, "targetPercent")
    elif "targetPercent" in objective.values:
        objective.refuse("targetPercent", "can't be given with target")
    else:
        fields.put("target", _percent_of_ratio(objective, "target"), objective, "target")


def _put_slices(fields: _Fields, objective: Part, method: str | None) -> None:
    wanted = {"Timeslices": ("timeSliceTarget", "timeSliceWindow"), "RatioTimeslices": ("timeSliceWindow",)}.get(method or "", ())
    for key in ("timeSliceTarget", "timeSliceWindow"):
        if method in _METHODS and key in objective.values and key not in wanted:
            objective.refuse(key, f"means nothing for {method}: remove it")
    if "timeSliceWindow" in wanted and (text := objective.text("timeSliceWindow")) is not None:
        if text not in _SLICES:
            objective.refuse("timeSliceWindow", f"{text} is not supported, only 1m and 5m are")
        fields.put("sli_spec.slice_seconds", _SLICES.get(text), objective, "timeSliceWindow")
    if "timeSliceTarget" in wanted:
        fields.put("sli_spec.slice_target", _percent_of_ratio(objective, "timeSliceTarget"), objective, "timeSliceTarget")


def _percent_of_ratio(objective: Part, key: str) -> Decimal | None:
    ratio = _number(objective, key)
    if ratio is not None and ratio > 1:
        or_percent = ", or targetPercent" if key == "target" else ""
        objective.refuse(key, f"{ratio} is more than 1: write 0.999 for 99.9 percent{or_percent}")
        return None
    return None if ratio is None else ratio.scaleb(2)


def _percent(objective: Part) -> Decimal | None:
    if "targetPercent" not in objective.values:
        objective.refuse("target", "is missing, and so is targetPercent")
        return None
    percent = _number(objective, "targetPercent")
    if percent is not None and 0 < percent < 1:
        # Nobody promises less than 1 percent, but who takes one field for the other would never hear that the budget is spent.
        text = f"{percent} reads as a ratio: write target: {percent}, or target: {percent.scaleb(-2):f} if it is none"
        objective.refuse("targetPercent", text)
        return None
    return percent


def _number(part: Part, key: str) -> Decimal | None:
    """Exact, as it is written."""
    text = part.text(key)
    if text is not None and _NUMBER.fullmatch(text) is None:
        part.refuse(key, f"{text[:40]} is not a decimal number of at most 20 characters")
        return None
    return None if text is None else Decimal(text)


def _ratio(spec: Part, slis: Mapping[str, Part]) -> Part | None:
    """The ratio metric of the SLI that is given inline or by name."""
    reference = spec.text("indicatorRef", required=False)
    if reference is None:
        indicator = spec.part("indicator", ("metadata", "spec"))
    elif "indicator" in spec.values:
        spec.refuse("indicatorRef", "can't be given with indicator")
        return None
    elif reference in slis:
        indicator = slis[reference]
    else:
        spec.refuse("indicatorRef", f"no SLI of these files has the name {reference}")
        return None
    measured = indicator.part("spec", ("description", "thresholdMetric", "ratioMetric")) if indicator else None
    if measured is not None and "thresholdMetric" in measured.values:
        measured.refuse("thresholdMetric", "is not supported: good and total events must be counted, as by a ratioMetric")
        return None
    ratio = measured.part("ratioMetric", _RATIO) if measured else None
    if ratio is not None and "raw" in ratio.values:
        ratio.refuse("raw", "is not supported: a ratio does not say how many events it is of")
        return None
    return ratio


def _put_queries(fields: _Fields, ratio: Part) -> None:
    if "good" in ratio.values and "bad" in ratio.values:
        ratio.refuse("bad", "can't be given with good")
        return
    numerator = "bad" if "bad" in ratio.values else "good"
    counted, total = _query(ratio, numerator), _query(ratio, "total")
    if counted and total and numerator == "bad":
        counted = f"({total}) - ({counted})"
    fields.put("sli_spec.good", counted, ratio, numerator)
    fields.put("sli_spec.total", total, ratio, "total")


def _query(ratio: Part, key: str) -> str | None:
    """The source's query, or all that is said of the source, as JSON, where it has none under that name.

    White space around it is left out: other words for the same measurement would restart the budget.
    """
    metric = ratio.part(key, ("metricSource",))
    source = metric.part("metricSource") if metric else None
    query = source.part("spec") if source else None
    if source is None or query is None:
        return None
    node = query.values.get("query")
    if isinstance(node, yaml.ScalarNode):
        return str(node.value).strip()
    return json.dumps(plain(source.node), ensure_ascii=False, sort_keys=True)
