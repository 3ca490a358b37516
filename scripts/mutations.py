#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""mutations.py COMMAND: what `make mutate` breaks.

  list               what there is
  weave TREE WITHOUT put all that can be chosen from into a kernel tree
  apply NAME TREE    put one in its place
  judge OUT LOG      what became of those that a guest tried

A mutation is a piece of a file and what stands there instead: each hunk of
the patch queue, left out, and each file in mutations/.  Pieces are found by
their text, which must be in the file once, so that lines may move; one that no
longer applies is an error.

list prints a line for each, with tabs between: name, kind, file, tests,
whether on the debug kernel, number or 0, a hash of what the result depends on,
and what it is.  Kinds are

  hunk      of the patch queue
  breakage  from mutations/
  text      a hunk of documentation
  build     a hunk of a Makefile or a Kconfig file
  declares  a hunk that only includes or declares something

A kernel has room for many of them.  weave puts a copy of the function beside it
for each mutation within a function, and at its beginning a look at a number
from the kernel's command line, which chooses one of them or none.  Those whose
numbers begin a line of the file WITHOUT are left out: they do not compile.
apply makes one change in place, for what is not within a function.  TREE is a
kernel tree with all of the overlay and the queue in place.

judge reads what the programs of a guest printed and the kernel's log, with the
complaints about it in LOG.bad, and prints for each mutation, with tabs between:
name, seconds, verdict, and who noticed.  Verdicts are killed, survived, and
error when no test ran.
"""
import glob
import hashlib
import os
import re
import sys
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SELFTESTS = "tools/testing/selftests/gmem"
# Where a file of the kernel tree is in this one.
OVERLAY = ("mm/gmem/", "drivers/gmem-sample-npu/", "include/linux/gmem")


def die(text):
    sys.exit(f"mutations.py: {text}")


def read(name):
    with open(os.path.join(ROOT, name)) as file:
        return file.read()


def read_lines(path):
    with open(path) as file:
        return file.read().split("\n")


def write_lines(path, lines):
    with open(path, "w") as file:
        file.write("\n".join(lines))


class Mutation:
    """old and new are lists of lines, found anywhere or in one function."""
    kind = "breakage"
    number = 0
    function = None
    debug = False

    def __init__(self, name):
        self.name = name
        self.old = []
        self.new = []

    def add(self, line):
        if line[:1] in (" ", "-", ""):
            self.old.append(line[1:])
        if line[:1] in (" ", "+", ""):
            self.new.append(line[1:])

    def bounds(self, lines):
        """First and last line of the function, or of the file."""
        if not self.function:
            return 0, len(lines)
        start = [i for i, line in enumerate(lines)
                 if re.match(rf"\w.*\b{self.function}\(", line) and
                 not line.endswith(";")]
        if not start:
            die(f"{self.name}: there is no function {self.function}")
        return start[-1], lines.index("}", start[-1])

    def find(self, lines):
        first, last = self.bounds(lines)
        size = len(self.old)
        found = [i for i in range(first, last - size + 1)
                 if lines[i:i + size] == self.old]
        if len(found) != 1:
            die(f"{self.name}: what it changes is {len(found)} times "
                f"in {self.file}")
        return found[0]

    def change(self, lines, at):
        return lines[:at] + self.new + lines[at + len(self.old):]

    def apply(self, tree):
        path = os.path.join(tree, self.file)
        lines = read_lines(path)
        write_lines(path, self.change(lines, self.find(lines)))

    def changed(self, at):
        """First and last line that differ, of a file."""
        same = 0
        while (same < min(len(self.old), len(self.new)) and
               self.old[same] == self.new[same]):
            same += 1
        tail = 0
        while (tail < min(len(self.old), len(self.new)) - same and
               self.old[-1 - tail] == self.new[-1 - tail]):
            tail += 1
        return at + same, at + len(self.old) - tail - 1


# --- many in one kernel ---------------------------------------------------------

class Function:
    """The one around a line of a file, if it can be copied."""
    def __init__(self, lines, at):
        self.ok = False
        self.body = at
        while self.body >= 0 and lines[self.body] != "{":
            if lines[self.body] in ("}", "};"):
                return
            self.body -= 1
        self.start = self.body - 1
        while self.start > 0 and lines[self.start][:1] in ("\t", " "):
            self.start -= 1
        # What it returns may stand alone.
        while re.match(r"[\w *]+$", lines[self.start - 1] or "?"):
            self.start -= 1
        self.end = lines.index("}", self.body)
        head = " ".join(lines[self.start:self.body])
        match = re.match(r"([\w\s*]+?[\s*])(\w+)\((.*)\)$", head, re.S)
        if not match or match.group(2).isupper() or "SYSCALL" in head:
            return
        self.result, self.name, params = match.groups()
        self.params = []
        for param in self.split(params):
            match = (re.search(r"\(\*(\w+)\)", param) or
                     re.search(r"(\w+)(\[\w*\])?$", param))
            if param != "void":
                self.params.append(match.group(1))
        self.ok = True

    @staticmethod
    def split(params):
        depth = 0
        parts = [""]
        for char in params:
            depth += {"(": 1, ")": -1}.get(char, 0)
            if char == "," and not depth:
                parts.append("")
            else:
                parts[-1] += char
        return [part.strip() for part in parts]

    def call(self, name):
        call = f"{name}({', '.join(self.params)})"
        words = set(self.result.split())
        if "void" in words and "*" not in self.result:
            return f"{{ {call}; return; }}"
        return f"return {call};"


def weave_file(lines, mutations):
    """Lines of a file with all of these, each with its place in the file."""
    functions = {}
    for mutation, at in mutations:
        function = Function(lines, mutation.changed(at)[0])
        functions.setdefault(function.start, (function, []))[1].append(
            (mutation, at))
    for start in sorted(functions, reverse=True):
        function, inside = functions[start]
        head = lines[start:function.body]
        clones = head[:-1] + [head[-1] + ";"]
        choose = ["\textern unsigned int gm_mutation;"]
        for mutation, at in inside:
            name = f"{function.name}_mut{mutation.number}"
            text = mutation.change(lines, at)
            text = text[start:function.end + 1 + len(text) - len(lines)]
            text = "\n".join(text).replace(
                f"{function.name}(", f"{name}(", 1)
            if not head[0].startswith("static"):
                text = "static " + text
            clones += text.split("\n") + [""]
            choose.append(f"\tif (gm_mutation == {mutation.number})")
            choose.append(f"\t\t{function.call(name)}")
        lines = (lines[:start] + clones + head + ["{"] + choose +
                 lines[function.body + 1:])
    return lines


# Where the number is, and how it comes there.
SWITCH_FILE = "mm/gmem/dev.c"
SWITCH = """
#include <linux/moduleparam.h>
unsigned int gm_mutation;
EXPORT_SYMBOL_GPL(gm_mutation);
core_param(gm_mutation, gm_mutation, uint, 0644);
"""


def weave(tree, without):
    files = {}
    for mutation in mutations():
        if mutation.number and mutation.number not in without:
            files.setdefault(mutation.file, []).append(mutation)
    files.setdefault(SWITCH_FILE, [])
    for name, inside in files.items():
        path = os.path.join(tree, name)
        lines = read_lines(path)
        lines = weave_file(lines, [(m, m.find(lines)) for m in inside])
        if name == SWITCH_FILE:
            lines += SWITCH.split("\n")
        write_lines(path, lines)


# --- tests -------------------------------------------------------------------

class Tests:
    """Finds programs and suites by the names that the documents use."""
    def __init__(self):
        self.programs = {}
        self.suites = {}
        for path in glob.glob(os.path.join(ROOT, SELFTESTS, "*.c")):
            program = os.path.basename(path)[:-2]
            self.programs[program] = program
            text = read(path)
            for match in re.finditer(
                    r"^(?:TEST_F\w*\((\w+), *(\w+)|NTH_TEST\((\w+))", text,
                    re.M):
                fixture, test, nth = match.groups()
                name = f"failnth.{nth}" if nth else f"{fixture}.{test}"
                self.programs[name] = f"{program}/{nth or test}"
        for path in glob.glob(os.path.join(ROOT, "kunit/*.c")):
            for match in re.finditer(r'\.name = "(gmem_\w+)"', read(path)):
                self.suites[match.group(1)] = os.path.basename(path)

    def resolve(self, name, owner):
        if name in self.suites:
            return f"kunit:{name}"
        if name not in self.programs:
            die(f"{owner}: there is no test {name}")
        return self.programs[name]

    def sources(self, tests):
        names = {"scripts/guest/init"}
        for test in tests:
            if test.startswith("kunit:"):
                names.add("kunit/" + self.suites[test[6:]])
                names |= {"kunit/fake.c", "kunit/fake.h"}
                continue
            program = test.split("/")[0]
            for pattern in f"{program}*.c", f"{program}/*", "gmem_*":
                names |= set(glob.glob(f"{SELFTESTS}/{pattern}",
                                       root_dir=ROOT))
        return sorted(names)


# --- where mutations come from -------------------------------------------------

def classify(path, added):
    if path.startswith("Documentation/"):
        return "text"
    if os.path.basename(path) in ("Kconfig", "Makefile"):
        return "build"
    text = "\n".join(added)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"^#\s*include .*$", "", text, flags=re.M)
    text = re.sub(r"^struct \w+;$", "", text, flags=re.M)
    text = re.sub(r"^asmlinkage [^{;]*\);$", "", text, flags=re.M)
    return "hunk" if text.strip() else "declares"


def hunks(patch, tests):
    """Each hunk of a patch, to be undone."""
    number = 0
    mutation = None
    path = None
    left = [0, 0]
    names = []
    for line in read(f"patches/{patch}").split("\n"):
        if not any(left):
            match = re.match(r"Test: (\w+\.\w+|gmem_\w+)$", line)
            if match:
                names.append(tests.resolve(match.group(1), patch))
            elif line.startswith("+++ b/"):
                path = line[6:].split("\t")[0]
            match = re.match(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line)
            if not match:
                continue
            number += 1
            mutation = Mutation(f"{patch[:-6]}.{number}")
            mutation.file = path
            mutation.tests = names
            mutation.added = []
            left = [int(size or 1) for size in match.groups()]
            continue
        if line.startswith("+"):
            mutation.added.append(line[1:])
        # Backwards: what is there now is what the patch made of it.
        flipped = {"+": "-", "-": "+"}.get(line[:1], " ") + line[1:]
        mutation.add(flipped)
        left[0] -= not line.startswith("+")
        left[1] -= not line.startswith("-")
        if not any(left):
            mutation.kind = classify(path, mutation.added)
            telling = [text for text in mutation.added if text.strip() and
                       not text.lstrip().startswith(("/*", "*", "#if"))]
            mutation.what = " ".join((telling or [""])[0].split())
            mutation.text = "\n".join(mutation.old + mutation.new)
            yield mutation


def breakage(path, tests):
    mutation = Mutation(os.path.basename(path))
    mutation.text = read(path)
    head, _, body = mutation.text.partition("\n\n")
    fields = {}
    for line in head.split("\n"):
        if line[:1].isspace():
            fields[key] += " " + line.strip()
            continue
        key, _, value = line.partition(":")
        fields[key] = value.strip()
    for key in "Breaks", "File", "Tests":
        if not fields.get(key):
            die(f"{mutation.name}: no {key}:")
    unknown = set(fields) - {"Breaks", "File", "In", "Tests", "Kernel",
                             "Survives"}
    if unknown:
        die(f"{mutation.name}: unknown {', '.join(unknown)}")
    mutation.file = fields["File"]
    mutation.function = fields.get("In")
    mutation.what = fields["Breaks"]
    mutation.debug = fields.get("Kernel") == "debug"
    mutation.tests = [tests.resolve(name, mutation.name)
                      for name in fields["Tests"].split()]
    for line in body.rstrip("\n").split("\n"):
        mutation.add(line)
    return mutation


def original(name):
    """A file of the kernel tree, with nothing broken."""
    if name.startswith(OVERLAY):
        return read_lines(os.path.join(ROOT, name))
    return read_lines(os.path.join(ROOT, "build/linux", name))


def mutations():
    tests = Tests()
    found = []
    for patch in read("patches/series").split():
        found += hunks(patch, tests)
    for path in sorted(glob.glob("mutations/*", root_dir=ROOT)):
        if os.path.basename(path) != "reasons":
            found.append(breakage(path, tests))
    numbers = {}
    for mutation in found:
        if (mutation.kind not in ("hunk", "breakage") or
                not mutation.file.endswith(".c")):
            continue
        lines = original(mutation.file)
        first, last = mutation.changed(mutation.find(lines))
        function = Function(lines, first)
        if function.ok and function.body < first and last < function.end:
            # The same as long as the name is.
            mutation.number = 1 + zlib.crc32(mutation.name.encode()) % 999999
            other = numbers.setdefault(mutation.number, mutation.name)
            if other != mutation.name:
                die(f"{mutation.name} and {other} have one number: rename one")
    return found


def digest(mutation, tests):
    """Of what the result depends on most: not of the whole kernel."""
    total = hashlib.sha256(mutation.text.encode())
    total.update(" ".join(mutation.tests).encode())
    names = tests.sources(mutation.tests)
    if mutation.file.startswith(OVERLAY):
        names.append(mutation.file)
    for name in names:
        total.update(read(name).encode())
    return total.hexdigest()[:16]


# --- results -------------------------------------------------------------------

def plain(text):
    """A line of the kernel log without what differs from run to run."""
    text = re.sub(r"^\[[^]]*\] *", "", text.strip())
    text = re.sub(r"WARNING: CPU: .* at (\S+) (\S+)\+.*",
                  r"WARNING: \1 \2", text)
    return re.sub(r"\+0x[0-9a-f]+/0x[0-9a-f]+|\[#\d+\].*", "", text)


class Trial:
    """One mutation in one guest."""
    def __init__(self, name):
        self.name = name
        self.bad = []
        self.good = False
        self.ended = False
        self.program = None
        self.killed = False
        self.complaints = []
        self.seconds = "-"

    def result(self, line):
        if line.startswith("# program: "):
            self.program = line.split()[2]
        elif line.startswith("# exit: "):
            self.killed |= line.split()[3] == "137"
        match = re.match(r"\s*(not )?ok \d+ (\S+)", line)
        if not match:
            return
        parts = match.group(2).split(".")
        test = ".".join((parts[0], parts[-1])) if parts[1:] else parts[0]
        if not match.group(1):
            self.good = True
        elif test not in self.bad:
            self.bad.append(test)

    def verdict(self):
        if self.bad:
            cases = [test for test in self.bad
                     if not test.startswith("gmem_")]
            return "killed", " ".join(cases or self.bad)
        telling = [text for text in self.complaints
                   if "cut here" not in text and "FAILED" not in text]
        if telling or self.complaints:
            return "killed", "kernel: " + (telling or self.complaints)[0]
        if self.killed or not self.ended:
            return "killed", f"hang of {self.program or 'the kernel'}"
        return ("survived", "-") if self.good else ("error", "no test ran")


def judge(out, log):
    trials = {}
    trial = None
    for line in open(out, errors="replace"):
        line = line.rstrip("\r\n")
        if line.startswith("# mutation: "):
            trial = Trial(line.split()[2])
            trials[trial.name] = trial
        elif line.startswith("# mutation-end: "):
            trial.ended = True
            trial = None
        elif trial:
            trial.result(line)
    judge_log(trials, log)
    for trial in trials.values():
        print(trial.name, trial.seconds, *trial.verdict(), sep="\t")


def judge_log(trials, log):
    complaints = {}
    if os.path.exists(log + ".bad"):
        for line in open(log + ".bad", errors="replace"):
            number, _, text = line.partition(":")
            complaints[int(number)] = plain(text)
    trial = None
    start = now = 0
    for number, line in enumerate(open(log, errors="replace"), 1):
        match = re.match(r"\[ *([\d.]+)\] (guest: mutation (\S+))?", line)
        if match:
            now = float(match.group(1))
        if match and match.group(3):
            start = now
            trial = trials.get(match.group(3))
        if trial:
            trial.seconds = round(now - start)
            if number in complaints:
                trial.complaints.append(complaints[number])


def main():
    args = sys.argv[1:]
    if args == ["list"]:
        tests = Tests()
        for m in mutations():
            print(m.name, m.kind, m.file, ",".join(m.tests) or "-",
                  "debug" if m.debug else "-", m.number, digest(m, tests),
                  m.what, sep="\t")
    elif len(args) == 3 and args[0] == "weave":
        weave(args[1], {int(line.split()[0])
                        for line in read(args[2]).splitlines()})
    elif len(args) == 3 and args[0] == "apply":
        for m in mutations():
            if m.name == args[1]:
                m.apply(args[2])
                return
        die(f"there is no {args[1]}")
    elif len(args) == 3 and args[0] == "judge":
        judge(args[1], args[2])
    else:
        die(__doc__)


main()
