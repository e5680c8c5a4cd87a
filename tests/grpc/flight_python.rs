//! Arrow Flight by the client that most of its users have: `pyarrow.flight`, unchanged from its registry. Without Python
//! or a registry there is nothing to test with, and the test says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use ragstone::config::Config;
use ragstone::server::Server;

/// The release that is tested.
const PYARROW: &str = "pyarrow==26.0.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyarrow_reads_and_writes() {
    let Some(python) = tokio::task::spawn_blocking(python).await.unwrap() else {
        println!("skipped: no Python with {PYARROW}, and none could be made");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().join("data"), ..Config::default() };
    config.server.listen = "127.0.0.1:0".into();
    let server = Server::start(config).await.unwrap();
    let address = format!("grpc://{}", server.addr);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flight/round_trip.py");
    let run = move || Command::new(python).arg(script).arg(address).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said:?}");
    assert_eq!(said.0.trim(), "ok 5001", "{said:?}");
    server.shutdown().await;
}

/// A Python that has pyarrow: in a folder of its own beside the other build outputs, made once.
fn python() -> Option<PathBuf> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pyarrow");
    let python = environment.join("bin/python");
    let succeeds = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let check = format!(
        "import pyarrow, pyarrow.flight, sys; sys.exit('pyarrow==' + pyarrow.__version__ != '{PYARROW}')"
    );
    if succeeds(Command::new(&python).args(["-c", &check])) {
        return Some(python);
    }
    let made = succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--timeout", "20", PYARROW];
    (made
        && succeeds(Command::new(&python).args(pip))
        && succeeds(Command::new(&python).args(["-c", &check])))
    .then_some(python)
}
