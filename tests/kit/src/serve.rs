//! `neon serve` as a process of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::environment::TestEnvironment;
use crate::output::Output;
use crate::process;

/// The user who may connect.
pub const USER: &str = "ada";
/// The password of [`USER`].
const PASSWORD: &str = "open sesame";
/// The same in a URI.
const PASSWORD_IN_URI: &str = "open%20sesame";

/// A running `neon serve --root`.
pub struct Serve<'e> {
    environment: &'e TestEnvironment,
    root: PathBuf,
    port: u16,
    child: Child,
}

impl<'e> Serve<'e> {
    /// Makes a directory for repositories and serves it.
    pub fn start(environment: &'e TestEnvironment, name: &str) -> Serve<'e> {
        Serve::start_with(environment, name, &[])
    }

    /// The same with variables in the server's environment.
    pub fn start_with(environment: &'e TestEnvironment, name: &str, variables: &[(&str, &str)]) -> Serve<'e> {
        Serve::start_as(environment, name, "", "exec", variables)
    }

    /// The same with settings, lines of `.neon-serve.toml`.
    pub fn start_set(environment: &'e TestEnvironment, name: &str, settings: &str) -> Serve<'e> {
        Serve::start_as(environment, name, settings, "exec", &[])
    }

    /// The same with so few descriptors.
    pub fn start_with_descriptors(
        environment: &'e TestEnvironment,
        name: &str,
        descriptors: u32,
    ) -> Serve<'e> {
        Serve::start_as(
            environment,
            name,
            "",
            &format!("ulimit -n {descriptors} && exec"),
            &[],
        )
    }

    fn start_as(
        environment: &'e TestEnvironment,
        name: &str,
        settings: &str,
        shell: &str,
        variables: &[(&str, &str)],
    ) -> Serve<'e> {
        let root = environment.path(name);
        fs::create_dir_all(&root).expect("a directory");
        fs::write(root.join(".neon-serve.toml"), settings).expect("written");
        let port = environment.port();
        add_user(environment, &root, USER, PASSWORD);
        let child = spawn(environment, &root, port, shell, variables);
        Serve {
            environment,
            child,
            root,
            port,
        }
    }

    /// Adds a user, or gives one another password.
    pub fn add_user(&self, name: &str, password: &str) {
        add_user(self.environment, &self.root, name, password);
    }

    /// Returns what the server has written down.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.with_extension("serve.log")).expect("a log")
    }

    /// Returns the lines of the audit.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.root.join(".neon-audit")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// Returns how many descriptors the server has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("it runs")
            .count()
    }

    /// Ends the server as `signal` does and serves the same directory, on the same port, again.
    pub fn restart(&mut self, signal: Signal, variables: &[(&str, &str)]) {
        process::kill(self.child.id(), signal);
        self.child.wait().expect("it ends");
        self.child = spawn(self.environment, &self.root, self.port, "exec", variables);
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the server has ended by itself.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub fn wait(&mut self) {
        let began = Instant::now();
        while self.child.try_wait().expect("it can be waited for").is_none() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the server did not end"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the directory that is served.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URI of a repository there, with the password.
    pub fn uri(&self, repository: &str) -> String {
        uri(self.port, repository)
    }

    /// Returns the URI of a repository there for another user; neither name nor password may need escapes.
    pub fn uri_of(&self, user: &str, password: &str, repository: &str) -> String {
        format!(
            "postgresql://{user}:{password}@127.0.0.1:{}/{repository}",
            self.port
        )
    }

    /// Returns the URI of a repository there through another port.
    pub fn uri_through(&self, port: u16, repository: &str) -> String {
        uri(port, repository)
    }
}

fn uri(port: u16, repository: &str) -> String {
    format!("postgresql://{USER}:{PASSWORD_IN_URI}@127.0.0.1:{port}/{repository}")
}

fn add_user(environment: &TestEnvironment, root: &Path, name: &str, password: &str) {
    let mut adding = environment.neon_command(
        environment.root(),
        &["user", "add", name, "--password-stdin", "--root"],
    );
    Output::fed(adding.arg(root), password).success();
}

/// Starts `neon serve` as `shell` says: the beginning of a line that the program is the rest of.
fn spawn(
    environment: &TestEnvironment,
    root: &Path,
    port: u16,
    shell: &str,
    variables: &[(&str, &str)],
) -> Child {
    let listen = format!("127.0.0.1:{port}");
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(root.with_extension("serve.log"))
        .expect("a log");
    let mut child = environment
        .command("sh", environment.root())
        .args(["-c", &format!("{shell} \"$0\" \"$@\"")])
        .arg(environment.program())
        .args(["serve", "--listen", &listen, "--root"])
        .arg(root)
        .envs(variables.iter().copied())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("neon runs");
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = child.try_wait().expect("it can be waited for");
        let log = || fs::read_to_string(root.with_extension("serve.log")).unwrap_or_default();
        assert!(ended.is_none(), "neon serve ended: {}", log());
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "neon serve does not listen: {}",
            log()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

impl Drop for Serve<'_> {
    fn drop(&mut self) {
        process::kill(self.child.id(), Signal::KILL);
        let _ = self.child.wait();
    }
}
