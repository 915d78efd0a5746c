"""Promotion and rollback of the product: the ledger decides, the aliases follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mlflow.entities.model_registry import ModelVersion

from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.ops.choice import highest
from hisac_lab.registry import notes
from hisac_lab.registry.gates import Gate, ahead_of, appended_to, check_gates, rival_of
from hisac_lab.registry.ledger import Ledger
from hisac_lab.registry.origin import Origin
from hisac_lab.registry.records import Evidence
from hisac_lab.registry.versions import (
    ABOUT,
    APPENDED,
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    FORCED,
    MODEL,
    ModelVersions,
    card,
)

Replay: TypeAlias = Callable[[Path, Evidence], Gate]
"""Serves a bundle and asks it: what the gate says of the answers."""


@dataclass(frozen=True)
class Listed:
    """One version for `hisac-lab models`.

    Attributes:
        model: The model of the board that it is.
        version: Its number.
        aliases: Aliases that point at it.
        tags: Evidence in short.
    """

    model: str
    version: str
    aliases: tuple[str, ...]
    tags: dict[str, str]


@dataclass(frozen=True)
class Decision:
    """What became of a promotion that was asked for.

    Attributes:
        model: The model of the board that the version is.
        version: Its number.
        gates: What each gate said.
        promoted: Whether it is champion now.
        ahead: Models of its board that are ahead of it by the interval of the difference in AUC, and by how much.
    """

    model: str
    version: str
    gates: list[Gate]
    promoted: bool
    ahead: dict[str, float]

    @property
    def failed(self) -> list[str]:
        """Names of the gates that did not hold."""
        return [gate.name for gate in self.gates if not gate.holds]


class Promoter:
    """Moves `champion`, and only when the gates hold or a reason is given.

    Args:
        versions: The registry.
        ledger: Where every decision is written first.
    """

    def __init__(self, versions: ModelVersions, ledger: Ledger) -> None:
        self.versions, self.ledger = versions, ledger

    def promote(
        self,
        model: str | None,
        version: str | None,
        config: PromotionConfig,
        forced: str | None = None,
        replay: Replay | None = None,
    ) -> Decision:
        """Promotes a version by its number, else the newest of a model, else the challenger.

        Args:
            model: A model of the board.
            version: Number of a version.
            config: The section `promotion`.
            forced: Why it is promoted whatever the gates say; ledger and version keep it. Damage is never promoted.
            replay: The gate that serves its bundle; None: it is not asked.

        Returns:
            The version and what the gates said; when one did not hold, only the ledger has changed.

        Raises:
            UserError: There is no such version, it is champion already, it is damaged, or this ledger does not hold
                the line that set the present champion.
        """
        with self.ledger.locked():
            self._follow()
            chosen = self.versions.pick(model, version)
            present = self.versions.alias(CHAMPION)
            name = f"{chosen.tags[MODEL]} version {chosen.version}"
            if present is not None and present.version == chosen.version:
                raise UserError("registry", f"{name} is champion already", "nothing to do")
            bundle = self.versions.bundle(chosen)
            evidence = Evidence.open(bundle)
            champion = None if present is None else self.versions.evidence(present)
            intact = Gate("bundle", True, "its files and its code are those that were registered")
            more = None if present is None else self._appended(evidence, champion, chosen, present)
            gates = [*(check_gates(evidence, champion, config) if more is None else [more]), intact]
            if replay is not None:
                gates.append(replay(bundle, evidence))
            origin = self.origin(chosen)
            passed = all(gate.holds for gate in gates)
            overruled = {} if passed or forced is None else {"forced": forced}
            entry = self.ledger.append(
                action="promote" if passed or overruled else "refuse",
                **self._facts(chosen, present),
                evidence=_evidence(evidence, champion),
                origin=None if origin is None else origin.facts(),
                gates=[gate._asdict() for gate in gates],
                **overruled,
            )
            if passed or overruled:
                self.versions.set_champion(chosen, entry["hash"])
            if overruled:
                self.versions.mark_forced(chosen, overruled["forced"])
            promoted = passed or bool(overruled)
            return Decision(chosen.tags[MODEL], str(chosen.version), gates, promoted, ahead_of(evidence))

    def _appended(
        self, evidence: Evidence, champion: Evidence | None, chosen: ModelVersion, present: ModelVersion
    ) -> Gate | None:
        """The one gate of the champion with more items: every number that it learned is looked at. None: another."""
        count = appended_to(evidence, champion)
        if count is None:
            return None
        from hisac_lab.inference.append import same_model  # with torch, which a look does not wait for

        same = same_model(self.versions.bundle(present), self.versions.bundle(chosen))
        says = f"it {'is' if same else 'is not'} the champion, version {present.version}, with {count:,} items appended"
        return Gate("items", same, says)

    def rollback(self) -> tuple[str, str | None]:
        """Restores the champion before the present one.

        Returns:
            The version that was champion, and the one that is again (None: there was none before).

        Raises:
            UserError: There is no champion, the bundle before it is damaged or not in the registry, or this ledger
                does not hold the line that set the present champion.
        """
        product = self.versions.product
        with self.ledger.locked():
            stack = self.ledger.champions(product)
            if not stack:
                raise UserError(self.ledger.path, f"{product} has no champion", "nothing to roll back")
            self._follow()
            present = self._version(stack[-1])
            before = self._version(stack[-2]) if len(stack) > 1 else None
            if before is not None:
                self.versions.evidence(before)
            entry = self.ledger.append(action="rollback", **self._facts(present, before))
            self.versions.set_champion(before, entry["hash"])
            return str(present.version), None if before is None else str(before.version)

    def _facts(self, version: ModelVersion, previous: ModelVersion | None) -> dict[str, Any]:
        """What every line of the ledger says of the version that it is about."""
        return {
            "product": self.versions.product,
            "model": version.tags[MODEL],
            "version": str(version.version),
            "bundle": version.tags[BUNDLE],
            "previous": None if previous is None else str(previous.version),
        }

    def restore_alias(self) -> None:
        """Makes aliases and marks say what the ledger says, where it decided and the bundle is at hand.

        An alias that a line set which this ledger does not hold, as when another clone promoted, is left and told; so
        are champions from before there was a product, while it has none.
        """
        product = self.versions.product
        try:
            self._follow()
        except UserError as error:
            if error.where != str(self.ledger.path) or error.field != product:
                raise
            say(f"{error}")
        for entry in self.ledger.decisions(product):
            version = self.versions.by_digest(entry["bundle"]) if "forced" in entry else None
            if version is not None and FORCED not in version.tags:
                self.versions.mark_forced(version, entry["forced"])
        former = self.ledger.former()
        if former and not self.ledger.decisions(product):
            names = ", ".join(former)
            say(f"champions of single models ({names}) stay as they were; {product} begins without one")

    def origin(self, version: ModelVersion) -> Origin | None:
        """Where a version comes from, by its run or else by the ledger; None where nobody recorded it."""
        return self.versions.origin(self.versions.top(version)) or self.ledger.origin([version.tags[BUNDLE]])

    def challenge(self, judged: Mapping[str, Evidence]) -> None:
        """Points `challenger` at the model with the best validation AUC that is no control and not the champion.

        Nor is it what the champion was before items were appended.

        Args:
            judged: The evidence of the present bundles, by digest; all are registered.
        """
        champion = self.versions.alias(CHAMPION)
        taken = set() if champion is None else {champion.tags[BUNDLE], *champion.tags.get(APPENDED, "").split()}
        aucs = {
            digest: evidence.valid_auc
            for digest, evidence in judged.items()
            if evidence.may_challenge and digest not in taken
        }
        best = highest(aucs, aucs.__getitem__, lambda digest: judged[digest].model) if aucs else None
        self.versions.set_challenger(None if best is None else self.versions.by_digest(best))

    def moved(self) -> str:
        """How `champion` was moved past the ledger, as by hand in MLflow's UI, in a few words; empty: it was not."""
        product, decisions = self.versions.product, self.ledger.decisions(self.versions.product)
        if not decisions or self.versions.decision() != decisions[-1]["hash"]:
            return ""  # nothing was decided, or the alias has yet to follow
        stack, present = self.ledger.champions(product), self.versions.alias(CHAMPION)
        wanted = self.versions.by_digest(stack[-1]) if stack else None
        found, said = (None if version is None else str(version.version) for version in (present, wanted))
        if found == said or (stack and wanted is None):
            return ""
        there = f"version {found}" if found else "taken away"
        return f"{product}@{CHAMPION} in MLflow is {there}, the ledger says {f'version {said}' if said else 'none'}"

    def judge(self, bundles: Mapping[str, Path], config: PromotionConfig, run: str) -> dict[str, tuple[str, Evidence]]:
        """Asks the gates about the versions of these bundles as things stand, and writes the answers on them.

        Args:
            bundles: By digest; all are registered.
            config: The section `promotion`.
            run: Address of the pipeline's run in the UI.

        Returns:
            May it ship, and its evidence, by version; nothing where the champion cannot be read.
        """
        present, why = self.versions.alias(CHAMPION), self._why()
        try:
            champion = None if present is None else self._opened(present, bundles)
        except UserError as error:
            say(f"versions are not judged ({error})")
            return {}
        answers = {}
        for digest, bundle in bundles.items():
            version, evidence = self._version(digest), Evidence.open(bundle)
            gates = check_gates(evidence, champion, config)
            standing = f"it is champion ({why})" if present is not None and present.version == version.version else ""
            answer = notes.ships(gates, standing)
            failed = sum(not gate.holds for gate in gates)
            tags = {"may_ship": answer, "gates": f"{len(gates) - failed} of {len(gates)} hold"}
            tags |= {f"gate.{gate.name}": f"{'holds' if gate.holds else 'fails'}: {gate.says}" for gate in gates}
            text = notes.version(evidence, gates, answer, card(bundle), run)
            self.versions.describe(version, {"against": rival_of(evidence, champion).name, **tags}, text)
            answers[str(version.version)] = answer, evidence
        champions = (
            f"Champion: version {present.version}, `{present.tags[MODEL]}`, {why}." if present else "No champion."
        )
        self.versions.introduce(f"{ABOUT}\n\n{champions}")
        return answers

    def _opened(self, version: ModelVersion, bundles: Mapping[str, Path]) -> Evidence:
        """The evidence of a version, which is at hand where its bundle is."""
        bundle = bundles.get(version.tags[BUNDLE])
        return self.versions.evidence(version) if bundle is None else Evidence.open(bundle)

    def _why(self) -> str:
        """Why the present champion is champion, as the ledger's last decision says."""
        decisions = self.ledger.decisions(self.versions.product)
        if not decisions:
            return "set elsewhere"
        last, day = decisions[-1], decisions[-1]["time"][:10]
        if last["action"] == "rollback":
            return f"restored on {day}"
        failed = ", ".join(gate["name"] for gate in last["gates"] if not gate["holds"])
        return f"promoted on {day}, " + (f"forced past {failed}: {last['forced']}" if failed else "every gate held")

    def _follow(self) -> None:
        """Makes the alias say what the ledger says."""
        self.versions.claim()
        product, decision = self.versions.product, self.versions.decision()
        if decision is not None and all(entry["hash"] != decision for entry in self.ledger.entries()):
            what = f"does not hold the line {decision[:12]} that set the champion in MLflow"
            raise UserError(self.ledger.path, what, "pull the ledger from the clone that wrote it", product)
        decisions, stack = self.ledger.decisions(product), self.ledger.champions(product)
        wanted = self.versions.by_digest(stack[-1]) if stack else None
        if decisions and (wanted is not None or (not stack and self.versions.all())):
            if said := self.moved():
                say(f"{said}: it is put back; `hisac-lab promote` changes it")
            self.versions.set_champion(wanted, decisions[-1]["hash"])

    def list(self) -> list[Listed]:
        """All versions with aliases and evidence."""
        held = {alias: self.versions.alias(alias) for alias in (CHAMPION, CHALLENGER)}
        listed = []
        for version in self.versions.all():
            aliases = tuple(alias for alias, at in held.items() if at is not None and at.version == version.version)
            listed.append(Listed(version.tags[MODEL], str(version.version), aliases, dict(version.tags)))
        return listed

    def _version(self, digest: str) -> ModelVersion:
        version = self.versions.by_digest(digest)
        if version is None:
            raise UserError(
                "registry",
                f"{self.versions.product} {digest[:12]} is not in it",
                "check out the commit that made it, `dvc checkout`, then `hisac-lab sync`",
            )
        return version


def _evidence(evidence: Evidence, champion: Evidence | None) -> dict[str, Any]:
    """What the ledger keeps of the evidence: how good, over which seeds, against whom, in which test."""
    auc, rival = evidence.metrics["auc"], rival_of(evidence, champion)
    return {
        "fingerprint": evidence.fingerprint,
        "seeds": evidence.seeds,
        "auc": auc.value,
        "interval": list(auc.interval),
        "seed_spread": auc.seed_spread,
        "against": rival.name,
        "comparison": None if rival.comparison is None else rival.comparison.facts(),
        "abtest": None if evidence.abtest is None else evidence.abtest.facts(),
    }
