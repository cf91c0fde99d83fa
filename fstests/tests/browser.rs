//! The HTML report in headless Chromium: it draws, and asks nothing of the network.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Longest time that a browser may take.
const SECONDS_MAX: u64 = 60;

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|p| p.is_file())
}

/// Runs the browser with its profile in `dir`; one that hangs is killed.
fn browse(browser: &Path, dir: &Path, arguments: &[&str]) -> Output {
    let always = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"];
    let output = std::fs::File::create(dir.join("out")).unwrap();
    let error = std::fs::File::create(dir.join("err")).unwrap();
    let mut child = Command::new(browser)
        .args(always)
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        // Whatever the page would fetch fails, and would show in the console.
        .args(["--proxy-server=127.0.0.1:9", "--enable-logging=stderr"])
        .args(arguments)
        .stdout(output)
        .stderr(error)
        .spawn()
        .unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > Duration::from_secs(SECONDS_MAX) {
            child.kill().unwrap();
            panic!("the browser takes more than {SECONDS_MAX} s");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    Output { status, stdout: read("out"), stderr: read("err") }
}

#[test]
fn the_report_is_drawn_in_a_browser_without_a_network() {
    let Some(browser) = browser() else {
        println!("skipped: the report in a browser: no chromium");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cursus-fstests"));
        command.current_dir(dir.path());
        command
    };
    let sizes = ["--rounds", "3", "--operations", "10", "--folder", "10,100", "--warm-up", "0"];
    let ran =
        program().args(["run", "place", "--workload", "list,flags"]).args(sizes).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(program().args(["report", "fstests.json"]).output().unwrap().status.success());

    let page = format!("file://{}", dir.path().join("fstests.html").display());
    let dom = browse(&browser, dir.path(), &["--dump-dom", &page]);
    let text = String::from_utf8_lossy(&dom.stdout).into_owned();
    // Of each workload and size bars and latencies, and a scaling curve of each workload.
    assert_eq!(text.matches("<svg").count(), 2 * 2 * 2 + 2, "{text}");
    assert_eq!(text.matches("<polyline").count(), 2 * 2 + 2);
    let console = String::from_utf8_lossy(&dom.stderr).into_owned();
    assert!(!console.contains("CONSOLE"), "{console}");

    let picture = dir.path().join("report.png");
    let to = format!("--screenshot={}", picture.display());
    browse(&browser, dir.path(), &[&to, "--window-size=1000,1400", &page]);
    let png = std::fs::read(&picture).unwrap();
    // Width and height are in the head of a PNG file; an empty page takes some 5 kB.
    assert_eq!(&png[12..16], b"IHDR");
    assert_eq!(u32::from_be_bytes(png[16..20].try_into().unwrap()), 1000);
    assert!(png.len() > 20_000, "{} bytes: nothing is drawn", png.len());
}
