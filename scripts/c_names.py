"""Print the names that C, POSIX and C++ have taken: c_names.txt, of tvmconv.compiler.artifact.names.

Usage: python scripts/c_names.py >tvmconv/compiler/artifact/c_names.txt   (Linux with glibc, gcc, g++ and nm)

A function of a library may not have the name of a function or variable of the C and maths libraries, nor of
anything that a header of C, POSIX or C++ declares or defines: a program's own calls would reach it, or its
header would not compile. Left out are constants in capitals, those with an underscore (EXIT_FAILURE) and
those of POSIX alone (B0, a baud rate), and reserved names (_x).
"""

from __future__ import annotations

import re
import subprocess
import textwrap

ISO = """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg
    stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype
"""
POSIX = """
    aio arpa/inet cpio dirent dlfcn fcntl fmtmsg fnmatch ftw glob grp iconv langinfo libgen monetary mqueue
    net/if netdb netinet/in netinet/tcp nl_types poll pthread pwd regex sched search semaphore spawn strings
    sys/ipc sys/mman sys/msg sys/resource sys/select sys/sem sys/shm sys/socket sys/stat sys/statvfs
    sys/sysmacros sys/time sys/times sys/types sys/uio sys/un sys/utsname sys/wait syslog tar termios unistd
    utime utmpx wordexp
"""
_NOT_IN_CPP = {"complex", "stdatomic", "stdnoreturn", "tgmath", "threads"}
CPP = """
    algorithm any array atomic bitset chrono cmath complex condition_variable deque exception filesystem
    forward_list fstream functional future initializer_list iomanip ios iosfwd iostream istream iterator
    limits list locale map memory mutex new numeric optional ostream queue random ratio regex set shared_mutex
    sstream stack stdexcept streambuf string string_view system_error thread tuple type_traits typeindex
    typeinfo unordered_map unordered_set utility valarray variant vector
"""
_LIBRARIES = ("libc.so.6", "libm.so.6")
_DECLARED = "int {}(const void *x, const void *packed, void *y);"


def exported() -> set[str]:
    """What the C and maths libraries define."""
    found: set[str] = set()
    for library in _LIBRARIES:
        path = _run("gcc", f"-print-file-name={library}").stdout.strip()
        found |= {line.split()[-1].partition("@")[0] for line in _run("nm", "-D", "--defined-only", path)
                  .stdout.splitlines()}  # fmt: skip
    return found


def declared() -> set[str]:
    """What headers define as macros, and names that they, or the compiler, take for something else."""
    source = "".join(f"#include <{name}.h>\n" for name in (ISO + POSIX).split())
    text = _gcc("c", source, "-E", "-dD").stdout
    macros = set(re.findall(r"^#define (\w*[a-z]\w*)", text, re.MULTILINE))
    iso = "".join(f"#include <{name}.h>\n" for name in ISO.split())
    macros |= set(re.findall(r"^#define (\w+)", _gcc("c", iso, "-E", "-dM").stdout, re.MULTILINE))
    words = set(re.findall(r"\b[A-Za-z]\w*\b", re.sub(r"^#.*$", "", text, flags=re.MULTILINE)))
    words = sorted(words - macros)
    plain = "".join(f"#include <{name}.h>\n" for name in (ISO + POSIX).split() if name not in _NOT_IN_CPP)
    return macros | _refused("c", source, words) | _refused("c", "", words) | _refused(
        "c++", plain + "".join(f"#include <{name}>\n" for name in CPP.split()), words
    )  # fmt: skip


def _refused(language: str, includes: str, names: list[str]) -> set[str]:
    """Of ``names``, those that a function of ours cannot be declared by."""
    head = includes + ('extern "C" {\n' if language == "c++" else "\n")
    text = head + "\n".join(map(_DECLARED.format, names)) + ("\n}\n" if language == "c++" else "\n")
    said = _gcc(language, text, "-fsyntax-only", "-fmax-errors=0").stderr
    lines = {int(line) - head.count("\n") - 1 for line in re.findall(r"^<stdin>:(\d+):", said, re.MULTILINE)}
    return {names[line] for line in lines if 0 <= line < len(names)}


def _gcc(language: str, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    compiler, standard = ("g++", "gnu++17") if language == "c++" else ("gcc", "gnu17")
    return _run(compiler, "-x", language, f"-std={standard}", "-D_GNU_SOURCE", *options, "-", input=source)


def _run(*command: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def main() -> None:
    found = {name for name in exported() | declared()
             if name[:1].isalpha() and not re.fullmatch(r"[A-Z0-9]+(_[A-Z0-9]*)+", name)}  # fmt: skip
    print(textwrap.fill(" ".join(sorted(found)), 110, break_on_hyphens=False))


if __name__ == "__main__":
    main()
