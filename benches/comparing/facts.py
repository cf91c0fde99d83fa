"""The machine that the figures are of."""
import pathlib
import platform
import subprocess


def machine(path):
    """Kernel, processor, memory, and the filesystem that holds `path`."""
    return {
        "kernel": platform.release(),
        "processor": processor(),
        "cpus": pathlib.Path("/proc/cpuinfo").read_text().count("processor\t"),
        "memory_mib": meminfo("MemTotal") // 1024,
        "mount": said(["findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", "-T", str(path)]),
        "load_before": pathlib.Path("/proc/loadavg").read_text().split()[0],
    }


def memory_available_kib():
    return meminfo("MemAvailable")


def meminfo(name):
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def said(command):
    try:
        return " ".join(subprocess.run(command, capture_output=True, text=True).stdout.split())
    except FileNotFoundError:
        return ""
