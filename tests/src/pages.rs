//! The pages' HTTP API as a browser's script sees it, and users who may sign in.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::gateway::deskreel;

/// The password of all users that [`add_user`] makes.
pub const PASSWORD: &str = "A-viewer-of-1";

const TIMEOUT: Duration = Duration::from_secs(30);

/// A user who may sign in with [`PASSWORD`].
///
/// # Errors
/// A command fails.
pub fn add_user(home: &Path, name: &str, roles: &str) -> anyhow::Result<()> {
    users(home, &["add", name, "--roles", roles, "--logins", name])?;
    set_password(home, name)
}

/// Gives a user [`PASSWORD`], anew if need be.
///
/// # Errors
/// The command fails.
pub fn set_password(home: &Path, name: &str) -> anyhow::Result<()> {
    users(home, &["passwd", name])
}

fn users(home: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut child = Command::new(deskreel())
        .arg("users")
        .args(arguments)
        .arg("--config")
        .arg(home.join("deskreel.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // A command that asks for no password may be gone by now.
    let _ = writeln!(child.stdin.take().context("stdin")?, "{PASSWORD}");
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "users {arguments:?}: {said}");
    Ok(())
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The value of a header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A browser's connection to the pages of this machine; it keeps the cookie.
#[derive(Debug)]
pub struct Browser {
    stream: BufReader<TcpStream>,
    port: u16,
    /// `name=value`, once signed in.
    pub cookie: String,
    csrf: String,
}

impl Browser {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            port,
            cookie: String::new(),
            csrf: String::new(),
        })
    }

    /// Connects and signs in with [`PASSWORD`].
    ///
    /// # Errors
    /// The server does not let the user in.
    pub fn sign_in(port: u16, user: &str) -> anyhow::Result<Self> {
        let mut browser = Self::open(port)?;
        // A gateway that runs looks for new users and passwords several times a second.
        let begun = Instant::now();
        let answer = loop {
            let answer = browser.post("/api/sign-in", &json!({"user": user, "password": PASSWORD}))?;
            if answer.status == 200 {
                break answer;
            }
            anyhow::ensure!(begun.elapsed() < TIMEOUT, "sign-in of {user}: {}", answer.status);
            std::thread::sleep(Duration::from_secs(1));
        };
        let cookie = answer.header("set-cookie").context("no cookie")?;
        browser.cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        browser.csrf = browser.get("/api/me")?.json()["csrf"]
            .as_str()
            .context("no token")?
            .to_owned();
        Ok(browser)
    }

    /// As another browser window: a connection of its own with the same cookie.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn again(&self) -> anyhow::Result<Self> {
        let mut other = Self::open(self.port)?;
        other.cookie.clone_from(&self.cookie);
        other.csrf.clone_from(&self.csrf);
        Ok(other)
    }

    /// A GET.
    ///
    /// # Errors
    /// No answer.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.ask("GET", path, "")
    }

    /// A POST with the page's token.
    ///
    /// # Errors
    /// No answer.
    pub fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.ask("POST", path, &body.to_string())
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nCookie: {}\r\nX-CSRF-Token: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            self.cookie,
            self.csrf,
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no HTTP status: {line:?}"))?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        answer.body = match answer.header("content-length") {
            Some(length) => {
                let mut body = vec![0; length.parse()?];
                self.stream.read_exact(&mut body)?;
                body
            }
            None if answer.header("transfer-encoding") == Some("chunked") => self.chunks()?,
            None => Vec::new(),
        };
        Ok(answer)
    }

    fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let length =
                usize::from_str_radix(line.trim(), 16).with_context(|| format!("a chunk's length: {line:?}"))?;
            let begin = body.len();
            body.resize(begin + length + 2, 0);
            self.stream.read_exact(&mut body[begin..])?;
            body.truncate(begin + length);
            if length == 0 {
                return Ok(body);
            }
        }
    }
}
