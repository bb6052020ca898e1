"""Identifiers that somebody might send in the hope that they become a path, a key or a command."""

from __future__ import annotations

TRICKS = (
    # paths
    *("", ".", "..", "../doom", "..\\doom", "/etc/passwd", "/", "doom/", "doom/../../x", "./doom"),
    *("doom//x", "doom/.", "~", "~root", "C:\\x", "\\\\host\\x", "file:x", "doom.h5", ".doom"),
    *("%2e%2e%2fdoom", "..%2fdoom", "doom%00", "%252e%252e", "..%c0%af", "....//", "doom\\0"),
    # ends of text and of lines
    *("doom\0", "\0", "\0doom", "doom\0.h5", "doom\n", "\ndoom", "doom\r\n", "doom\r", "doom\n\n"),
    *("doom\nEVIL", "doom\t", " doom", "doom ", "do om", "doom\v", "doom\f", "doom\x1b[31m"),
    *("doom\x7f", "doom\x85", "doom\u2028", "doom\u2029", "doom\u00a0"),
    # letters and digits that only look like ours, or are ours only after a change
    *("d\u00f6\u00f6m", "d\u03bfom", "\u0501oom", "\uff44oom", "doom\uff11", "doom\u0663"),
    *("doom\u00b2", "doom\u2460", "\ufb00", "\u212a", "\u017f", "\u0131", "doo\u0301m"),
    *("doom\u2010x", "doom\uff0dx", "doom\uff3fx", "\uff0e\uff0e", "\u2024\u2024", "doom\u2044x"),
    # what cannot be seen
    *("\u202edoom", "doom\u200b", "doom\u200d", "doom\u00ad", "\ufeffdoom", "doom\u2066", "\u115f"),
    *("doom\U000e0041", "doom\U0001f600", "\ud800", "doom\udfff", "doom\uffff"),
    # commands, patterns, keys
    *("$HOME", "$(id)", "`id`", "doom;id", "doom|id", "doom&id", "doom>x", "doom*", "doom?"),
    *("[d]oom", "{doom}", "doom'", 'doom"', "<doom>", "doom:x", "doom#x", "doom=x", "doom,x"),
    *("doom@x", "doom+x", "doom!", "doom^", "doom%s", "{0}", "doom\b", "doom\\n"),
    # lengths
    *("a" * 65, "a" * 255, "a" * 256, "a" * 100_000),
)
