"""Where the SQL files and the Avro schemas lie: beside the package's modules in a wheel, beside the package in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE if (_PACKAGE / "sql").is_dir() else _PACKAGE.parent

SQL = _ROOT / "sql"
AVRO = _ROOT / "schemas" / "avro"
