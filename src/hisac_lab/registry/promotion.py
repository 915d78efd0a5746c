"""Promotion and rollback: the ledger decides, the aliases follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.gates import Gate, check_gates
from hisac_lab.registry.ledger import Ledger
from hisac_lab.registry.versions import BUNDLE, CHALLENGER, CHAMPION, ModelVersions


@dataclass(frozen=True)
class Listed:
    """One version for `hisac-lab models`.

    Attributes:
        model: Name of the registered model.
        version: Its number.
        aliases: Aliases that point at it.
        tags: Evidence in short.
    """

    model: str
    version: str
    aliases: tuple[str, ...]
    tags: dict[str, str]


class Promoter:
    """Moves `champion`, and only when the gates hold.

    Args:
        versions: The registry.
        ledger: Where every decision is written first.
    """

    def __init__(self, versions: ModelVersions, ledger: Ledger) -> None:
        self.versions, self.ledger = versions, ledger

    def promote(self, model: str, version: str | None, config: PromotionConfig) -> tuple[str, list[Gate]]:
        """Promotes a version, the challenger by default.

        Returns:
            The version and what the gates said; when one did not hold, only the ledger has changed.

        Raises:
            UserError: There is no such version, it is champion already, or this ledger does not hold the line that
                set the present champion.
        """
        with self.ledger.locked():
            self._follow(model)
            chosen = self.versions.pick(model, version)
            present = self.versions.alias(model, CHAMPION)
            if present is not None and present.version == chosen.version:
                raise UserError("registry", f"{model} version {chosen.version} is champion already", "nothing to do")
            champion = None if present is None else self.versions.evidence(present)
            gates = check_gates(self.versions.evidence(chosen), champion, config)
            passed = all(gate.holds for gate in gates)
            entry = self.ledger.append(
                action="promote" if passed else "refuse",
                model=model,
                version=str(chosen.version),
                bundle=chosen.tags[BUNDLE],
                previous=None if present is None else str(present.version),
                gates=[gate._asdict() for gate in gates],
            )
            if passed:
                self.versions.set_champion(model, chosen, entry["hash"])
            return str(chosen.version), gates

    def rollback(self, model: str) -> tuple[str, str | None]:
        """Restores the champion before the present one.

        Returns:
            The version that was champion, and the one that is again (None: there was none before).

        Raises:
            UserError: The model has no champion, the bundle before it is not in the registry, or this ledger does not
                hold the line that set the present champion.
        """
        with self.ledger.locked():
            self.versions.check(model)
            stack = self.ledger.champions(model)
            if not stack:
                raise UserError(self.ledger.path, f"{model} has no champion", "nothing to roll back")
            self._follow(model)
            present = self._version(model, stack[-1])
            before = self._version(model, stack[-2]) if len(stack) > 1 else None
            entry = self.ledger.append(
                action="rollback",
                model=model,
                version=str(present.version),
                bundle=stack[-1],
                previous=None if before is None else str(before.version),
            )
            self.versions.set_champion(model, before, entry["hash"])
            return str(present.version), None if before is None else str(before.version)

    def restore_aliases(self) -> None:
        """Makes the aliases say what the ledger says, where it decided and the bundles are at hand.

        An alias that a line set which this ledger does not hold, as when another clone promoted, is left and told.
        """
        for model in self.versions.names():
            try:
                self._follow(model)
            except UserError as error:
                if error.where != str(self.ledger.path) or error.field != model:
                    raise
                say(f"{error}")

    def _follow(self, model: str) -> None:
        """Makes one model's alias say what the ledger says."""
        self.versions.check(model)
        decision = self.versions.decision(model)
        if decision is not None and all(entry["hash"] != decision for entry in self.ledger.entries()):
            what = f"does not hold the line {decision[:12]} that set the champion in MLflow"
            raise UserError(self.ledger.path, what, "pull the ledger from the clone that wrote it", model)
        decisions, stack = self.ledger.decisions(model), self.ledger.champions(model)
        wanted = self.versions.by_digest(model, stack[-1]) if stack else None
        if decisions and (wanted is not None or not stack):
            self.versions.set_champion(model, wanted, decisions[-1]["hash"])

    def list(self) -> list[Listed]:
        """All versions with aliases and evidence."""
        listed = []
        for model in self.versions.names():
            held = {alias: self.versions.alias(model, alias) for alias in (CHAMPION, CHALLENGER)}
            for version in self.versions.all(model):
                aliases = tuple(a for a, at in held.items() if at is not None and at.version == version.version)
                listed.append(Listed(model, str(version.version), aliases, dict(version.tags)))
        return listed

    def _version(self, model: str, digest: str) -> Any:
        version = self.versions.by_digest(model, digest)
        if version is None:
            raise UserError(
                "registry",
                f"{model} {digest[:12]} is not in it",
                "check out the commit that made it, `dvc checkout`, then `hisac-lab sync`",
            )
        return version
