#!/usr/bin/env python3
"""Packs the release binaries and everything they need into one signed archive, and into Debian packages.

    bundle.py [--out FOLDER] [--key FILE] [--model FOLDER] [--no-deb]

Writes into FOLDER (default target/bundle): consilium-VERSION-ARCH.tar.gz, and two packages, consilium-coordinator (no libtorch) and
consilium-client. The archive holds the binaries, libtorch, manuals, samples, systemd units, a container file, the licences of
everything that is linked in, a software bill of materials (sbom.cdx.json, CycloneDX 1.5), SHA256SUMS over every file, and
SHA256SUMS.sig: made by `ssh-keygen -Y sign` with FILE, an OpenSSH private key. Without --key a key is made once and kept in FOLDER,
readable by its owner; who installs must be told its fingerprint over another channel.

Run it after `make build`. Needs Python 3.9, cargo, ssh-keygen, and dpkg-deb unless --no-deb. Uses no network.
"""
import argparse
import base64
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ["consilium", "consilium-coordinator", "consilium-client"]
# Next to each program's folder, wherever it is installed.
RUNPATH = b"$ORIGIN/../lib"
# The roots of what is shipped; what only tests and benches need is not in the bill of materials.
SHIPPED = ["consilium-coordinator", "consilium-client"]


def fail(why, cure):
    sys.exit(f"bundle: {why}; {cure}")


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# --- binaries ------------------------------------------------------------------------------------------------------


def dynamic(data):
    """The entries of an ELF64 file's dynamic section, and where its string table begins in the file."""
    if data[:5] != b"\x7fELF\x02":
        raise ValueError("not a 64-bit ELF file")
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, table + index * size) for index in range(count)]
    loads = [h for h in headers if h[0] == 1]
    place = next((h for h in headers if h[0] == 2), None)
    entries = []
    if place:
        for offset in range(place[2], place[2] + place[5], 16):
            tag, value = struct.unpack_from("<QQ", data, offset)
            if tag == 0:
                break
            entries.append((tag, value))
    address = dict(entries).get(5, 0)
    strings = next((address - h[3] + h[2] for h in loads if h[3] <= address < h[3] + h[6]), None)
    return entries, strings


def text_at(data, offset):
    return bytes(data[offset:data.index(0, offset)])


def needed(path):
    data = path.read_bytes()
    entries, strings = dynamic(data)
    return [text_at(data, strings + value).decode() for tag, value in entries if tag == 1]


def set_runpath(path):
    """Points a program at the libraries beside it, in place of the build machine's folder."""
    data = bytearray(path.read_bytes())
    entries, strings = dynamic(data)
    for tag, value in entries:
        if tag in (15, 29):  # DT_RPATH, DT_RUNPATH
            old = text_at(data, strings + value)
            if len(old) < len(RUNPATH):
                fail(f"{path.name} was linked with the run path {old.decode()}, too short to be replaced",
                     "put libtorch into a folder with a longer path and build again")
            data[strings + value:strings + value + len(old)] = RUNPATH.ljust(len(old), b"\0")
            path.write_bytes(data)
            return
    fail(f"{path.name} has no run path", "build it with `make build`")


def libraries(program, folder):
    """What a program needs from libtorch's folder, and what that needs."""
    found, todo = [], [program]
    while todo:
        for name in needed(todo.pop()):
            library = folder / name
            if library.exists() and library not in found:
                found.append(library)
                todo.append(library)
    return sorted(found)


def newest_glibc(paths):
    versions = set()
    for path in paths:
        versions.update(re.findall(rb"GLIBC_(\d+\.\d+)\0", path.read_bytes()))
    return max((tuple(map(int, v.decode().split("."))) for v in versions), default=(2, 17))


# --- bill of materials ----------------------------------------------------------------------------------------------


def packages():
    """What is linked into the shipped programs, with what each depends on; build scripts and procedural macros included."""
    host = re.search(r"^host: (.+)$", run("rustc", "-vV"), re.M)[1]
    metadata = json.loads(run("cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", host, cwd=ROOT))
    by_id = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    names = {by_id[member]["name"]: member for member in metadata["workspace_members"]}
    todo, seen = [names[name] for name in SHIPPED], {}
    while todo:
        this = todo.pop()
        if this in seen:
            continue
        wanted = [d["pkg"] for d in nodes[this]["deps"] if any(kind["kind"] != "dev" for kind in d["dep_kinds"])]
        seen[this] = sorted(wanted)
        todo.extend(wanted)
    return by_id, seen, metadata["workspace_members"]


def checksums():
    text = (ROOT / "Cargo.lock").read_text()
    rows = re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([0-9a-f]{64})"', text)
    return {(name, version): checksum for name, version, checksum in rows}


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, sums, own):
    it = {"type": "library", "bom-ref": reference(package), "name": package["name"], "version": package["version"],
          "purl": reference(package)}
    if package["license"]:
        # Old manifests write a slash where SPDX has OR.
        it["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = sums.get((package["name"], package["version"]))
    if checksum:
        it["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"] and not own:
        it["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return it


def bill(version, torch, libs):
    by_id, seen, members = packages()
    sums = checksums()
    components = [component(by_id[this], sums, this in members) for this in seen]
    depends = [{"ref": reference(by_id[this]), "dependsOn": sorted({reference(by_id[d]) for d in deps})}
               for this, deps in seen.items()]
    libtorch = f"pkg:pypi/torch@{torch}"
    components.append({
        "type": "library", "bom-ref": libtorch, "name": "libtorch", "version": torch, "purl": libtorch,
        "licenses": [{"expression": "BSD-3-Clause"}],
        "components": [{"type": "file", "name": lib.name, "hashes": [{"alg": "SHA-256", "content": sha256(lib)}]}
                       for lib in libs],
    })
    for entry in depends:
        if entry["ref"].startswith("pkg:cargo/torch-sys@"):
            entry["dependsOn"].append(libtorch)
    depends.append({"ref": libtorch, "dependsOn": []})
    root = f"pkg:generic/consilium@{version}"
    depends.append({"ref": root, "dependsOn": [f"pkg:cargo/{name}@{version}" for name in SHIPPED]})
    components.sort(key=lambda it: it["bom-ref"])
    depends.sort(key=lambda it: it["ref"])
    content = json.dumps([components, depends], sort_keys=True)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        # The same software, the same number.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "metadata": {"component": {"type": "application", "bom-ref": root, "name": "consilium", "version": version,
                                   "licenses": [{"expression": "Apache-2.0"}]}},
        "components": components, "dependencies": depends,
    }, [by_id[this] for this in seen if this not in members]


def licences(folder, crates):
    """The licence texts that the crates ship, one file for each text, and a table of who uses which."""
    folder.mkdir()
    rows = ["name | version | licence | text", "---|---|---|---"]
    for crate in sorted(crates, key=lambda it: (it["name"], it["version"])):
        home, texts = Path(crate["manifest_path"]).parent, []
        for path in sorted(home.iterdir()):
            if path.is_file() and re.match(r"(?i)(licen[cs]e|copying|notice|unlicense|copyright)", path.name):
                name = f"{sha256(path)[:12]}.txt"
                if not (folder / name).exists():
                    shutil.copyfile(path, folder / name)
                texts.append(name)
        expression = crate["license"] or "see its text"
        rows.append(f"{crate['name']} | {crate['version']} | {expression} | {' '.join(texts) or 'by reference to SPDX'}")
    (folder / "README.md").write_text("# Licences of what is linked in\n\n" + "\n".join(rows) + "\n\nlibtorch: libtorch.txt\n")
    shutil.copyfile(ROOT / "deploy/libtorch-licence.txt", folder / "libtorch.txt")


# --- archive --------------------------------------------------------------------------------------------------------


def stage(folder, options, version):
    if folder.exists():
        shutil.rmtree(folder)
    for sub in ["bin", "lib", "share/systemd", "share/examples", "share/doc"]:
        (folder / sub).mkdir(parents=True)
    torch = Path(os.environ.get("LIBTORCH") or ROOT / ".cache/libtorch")
    for name in PROGRAMS:
        built = ROOT / "target/release" / name
        if not built.exists():
            fail(f"{built} is not there", "run `make build` first")
        shutil.copy(built, folder / "bin" / name)
        if shutil.which("strip"):
            run("strip", "--strip-debug", str(folder / "bin" / name))
    libs = libraries(folder / "bin/consilium-client", torch / "lib")
    if not libs:
        fail(f"nothing that consilium-client needs is in {torch}/lib", "set LIBTORCH to the folder it was built with")
    set_runpath(folder / "bin/consilium-client")
    for lib in libs:
        shutil.copyfile(lib, folder / "lib" / lib.name)
    glibc = newest_glibc([*(folder / "bin").iterdir(), *(folder / "lib").iterdir()])
    (folder / "share/glibc").write_text(f"{glibc[0]}.{glibc[1]}\n")
    for unit in (ROOT / "deploy/systemd").iterdir():
        shutil.copy(unit, folder / "share/systemd")
    for sample in [*ROOT.glob("coordinator/*.example.toml"), *ROOT.glob("client/*.example.toml")]:
        shutil.copy(sample, folder / "share/examples")
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *ROOT.glob("*/docs/*.md")]:
        shutil.copy(page, folder / "share/doc")
    for file in ["Containerfile"]:
        shutil.copy(ROOT / "deploy" / file, folder / "share")
    shutil.copy(ROOT / "deploy/install.sh", folder)
    shutil.copy(ROOT / "LICENSE", folder)
    if options.model:
        shutil.copytree(options.model, folder / "model", ignore=shutil.ignore_patterns(".*"))
    known = (torch / "build-version").read_text().strip() if (torch / "build-version").exists() else "unknown"
    document, crates = bill(version, known.split("+")[0], libs)
    (folder / "sbom.cdx.json").write_text(json.dumps(document, indent=1) + "\n")
    licences(folder / "licences", crates)


def sign(folder, key):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256(path)}  ./{path.relative_to(folder)}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums)
    run("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "consilium-bundle", str(folder / "SHA256SUMS"), stderr=subprocess.DEVNULL)


def archive(folder, out):
    """Always the same bytes for the same files: no owners, no times."""
    def plain(info):
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = "root"
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    with open(out, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0, filename="") as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted([folder, *folder.rglob("*")]):
                tar.add(path, arcname=str(path.relative_to(folder.parent)), recursive=False, filter=plain)


def debian(folder, out, version, arch, which):
    name, tree = f"consilium-{which}", out / f".{which}.deb"
    if tree.exists():
        shutil.rmtree(tree)
    run(str(folder / "install.sh"), "--destdir", str(tree), "--only", which, stderr=subprocess.DEVNULL)
    # Two packages may be on one machine: nothing may be in both.
    (tree / "usr/lib/sysusers.d/consilium.conf").rename(tree / f"usr/lib/sysusers.d/{name}.conf")
    users = tree / f"usr/lib/sysusers.d/{name}.conf"
    users.write_text("".join(line for line in users.read_text().splitlines(True) if name in line))
    (tree / "usr/share/doc/consilium").rename(tree / f"usr/share/doc/{name}")
    for sample in (tree / "etc/consilium").iterdir():
        if (sample.name == "client.example.toml" or sample.name == "policy.example.toml") != (which == "client"):
            sample.unlink()
    control = tree / "DEBIAN"
    control.mkdir()
    glibc = (folder / "share/glibc").read_text().strip()
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    words = {"coordinator": "the coordinator of a consortium, and its operator's command",
             "client": "the process that an organization runs beside its data"}[which]
    (control / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: Consilium <https://github.com/consilium-fl/consilium>\n"
        f"Installed-Size: {size}\nDepends: libc6 (>= {glibc}), libgcc-s1{', libstdc++6' if which == 'client' else ''}\nSection: science\nPriority: optional\n"
        f"Description: federated fine-tuning without sharing data: {words}\n Secure aggregation and differential privacy for organizations that may not share data.\n")
    configuration = [f"/etc/consilium/{path.name}" for path in sorted((tree / "etc/consilium").iterdir())]
    (control / "conffiles").write_text("".join(f"{path}\n" for path in configuration))
    for script in ["postinst", "prerm"]:
        (control / script).write_text((ROOT / "deploy/debian" / script).read_text().replace("@PACKAGE@", name))
        (control / script).chmod(0o755)
    package = out / f"{name}_{version}_{arch}.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(package))
    shutil.rmtree(tree)
    return package


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "target/bundle")
    parser.add_argument("--key", type=Path, help="OpenSSH private key that signs")
    parser.add_argument("--model", type=Path, help="a base model's folder, to be put in as model/")
    parser.add_argument("--no-deb", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    key = options.key or options.out / "release-key"
    if not key.exists():
        if options.key:
            fail(f"{key} is not there", "make one with ssh-keygen -t ed25519")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release", "-f", str(key))
    version = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    machine = platform.machine()
    folder = options.out / f"consilium-{version}-{machine}"
    stage(folder, options, version)
    sign(folder, key)
    public = run("ssh-keygen", "-y", "-f", str(key)).split()[:2]
    (options.out / "signers").write_text(f"release {' '.join(public)}\n")
    packed = options.out / f"{folder.name}.tar.gz"
    archive(folder, packed)
    made = [packed]
    if not options.no_deb:
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
        made += [debian(folder, options.out, version, arch, which) for which in ["coordinator", "client"]]
    shutil.rmtree(folder)
    for path in made:
        print(f"{path}  {path.stat().st_size / 1e6:.0f} MB  sha256 {sha256(path)}")
    print(f"{options.out / 'signers'}  {fingerprint(public)}")


def fingerprint(public):
    digest = hashlib.sha256(base64.b64decode(public[1])).digest()
    return "the signer's fingerprint: SHA256:" + base64.b64encode(digest).decode().rstrip("=")


if __name__ == "__main__":
    main()
