"""Names of files that are allowed and that programs stumble over."""

ODD_NAMES = (
    "<script>alert(1)<script>", "a b", "Läsion ✓ 皮膚", "..dots..", "$x^{$", "%s%n", "-rf", "a'b\"c", "a\nb", "a|b`c*",
    "=1+1", "x" * 180, "\x1b[31m", "a\\b", "~", "null", "*", "[a-z]?",
)  # fmt: skip
