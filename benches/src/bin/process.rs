//! What the whole process costs: a simulated fleet is scraped, the exposition is read, CPU and memory are taken from
//! /proc. Optionally Debian's Prometheus does the same scraping in the same run.
//!
//! ```sh
//! cargo build --release --locked && cargo run --release --locked -p benches --bin process -- target/release/inferometer
//! ```
//!
//! The measured process is pinned to CPU 0, the fleet and this program to CPU 1.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the person at the terminal"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use simulator::{BulkFleet, BulkSpec, Release};

struct Options {
    binary: String,
    targets: usize,
    series: usize,
    seconds: u64,
    warmup: u64,
}

fn options() -> Options {
    let mut options = Options {
        binary: "target/release/inferometer".to_owned(),
        targets: 200,
        series: 500,
        seconds: 30,
        warmup: 8,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number =
            || args.next().and_then(|text| text.parse().ok()).expect("a number after the option");
        match arg.as_str() {
            "--targets" => options.targets = number(),
            "--series" => options.series = number(),
            "--seconds" => options.seconds = number() as u64,
            "--warmup" => options.warmup = number() as u64,
            _ => options.binary = arg,
        }
    }
    options
}

/// CPU seconds so far, and resident bytes now and at most.
fn usage(pid: u32) -> (f64, u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (ticks / 100.0, kib("VmRSS:") << 10, kib("VmHWM:") << 10)
}

fn pinned(program: &str, cpu: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpu, program]);
    command
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts the binary; gives its exposition's address and the time until it was ready.
fn start(binary: &str, config: &Path) -> (Running, String, Duration) {
    let began = Instant::now();
    let mut child = pinned(binary, "0")
        .args(["run", "--log-format", "logfmt", "-c"])
        .arg(config)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut address = String::new();
    let ready = loop {
        let line = lines.next().expect("it becomes ready").unwrap();
        if line.contains("msg=listening") && line.contains("exporters.prometheus") {
            address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        }
        if line.contains("msg=ready") {
            break began.elapsed();
        }
    };
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("  {line}")));
    (Running(child), address, ready)
}

/// Bytes and sample lines of one read of the exposition.
fn read(address: &str) -> (usize, usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut page = Vec::new();
    stream.read_to_end(&mut page).unwrap();
    let samples = page
        .split(|byte| *byte == b'\n')
        .filter(|line| line.first().is_some_and(|c| *c != b'#'))
        .count();
    (page.len(), samples)
}

fn main() {
    let options = options();
    let dir = tempfile::tempdir().unwrap();
    drop(
        Command::new("taskset")
            .args(["-p", "-c", "1", &std::process::id().to_string()])
            .stdout(Stdio::null())
            .status(),
    );
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let releases = vec![Release::Vllm0_33_0, Release::Sglang0_5_23];
    let spec = BulkSpec { targets: options.targets, series: options.series, releases, port: 0 };
    let fleet = runtime.block_on(BulkFleet::start(&spec)).unwrap();
    idle(&options, dir.path());
    ours(&options, &fleet, dir.path());
    prometheus(&options, &fleet, dir.path());
}

fn tail(dir: &Path) -> String {
    format!(
        "[service]\ndata_dir = {dir:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n[processors.normalize]\n[processors.pod_id]\n[processors.labels]\n\
         [exporters.prometheus]\nlisten = \"127.0.0.1:0\"\n[pipelines.metrics]\nreceivers = [\"engines\"]\n\
         processors = [\"normalize\", \"pod_id\", \"labels\"]\nexporters = [\"prometheus\"]\n"
    )
}

fn idle(options: &Options, dir: &Path) {
    let config = dir.join("idle.toml");
    let receiver = "[receivers.engines]\ntype = \"prometheus\"\ndiscover = \"local\"\nlocal = { ports = [1] }\n";
    std::fs::write(&config, format!("{receiver}{}", tail(dir))).unwrap();
    let (child, _, ready) = start(&options.binary, &config);
    std::thread::sleep(Duration::from_secs(2));
    let (_, rss, _) = usage(child.0.id());
    let size = std::fs::metadata(&options.binary).map_or(0, |file| file.len());
    println!(
        "idle: ready in {ready:.1?}, {:.1} MiB RSS; binary {:.1} MB as built",
        mib(rss),
        size as f64 / 1e6
    );
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

fn ours(options: &Options, fleet: &BulkFleet, dir: &Path) {
    let targets: Vec<String> = (0..options.targets)
        .map(|target| {
            format!(
                "{{\"targets\":[\"{}\"],\"labels\":{{\"__metrics_path__\":\"{}\",\"deployment_id\":\"d{}\",\"replica\":\"r{target}\",\"instance\":\"pod-{target}:8000\",\"model_id\":\"m\",\"model_name\":\"model\",\"pod\":\"pod-{target}\",\"namespace\":\"n\"}}}}",
                fleet.address(),
                BulkFleet::path(target),
                target / 10
            )
        })
        .collect();
    std::fs::write(dir.join("targets.json"), format!("[{}]", targets.join(","))).unwrap();
    let receiver = format!(
        "[receivers.engines]\ntype = \"prometheus\"\ninterval = \"1s\"\ntimeout = \"1s\"\nfile_sd = {{ files = [{:?}] }}\n",
        dir.join("targets.json")
    );
    let config = dir.join("agent.toml");
    std::fs::write(&config, format!("{receiver}{}", tail(dir))).unwrap();
    let (child, address, _) = start(&options.binary, &config);
    let pid = child.0.id();
    let before_warm = usage(pid).1;
    std::thread::sleep(Duration::from_secs(options.warmup));
    // Before anybody reads: what it holds per series. Reading adds the rendered page.
    let unread = usage(pid).1;
    let (bytes, shown) = read(&address);
    let (cpu, _, _) = usage(pid);
    let scraped = |fleet: &BulkFleet| -> u64 {
        fleet
            .scrapes()
            .iter()
            .enumerate()
            .map(|(target, count)| count * fleet.series(target) as u64)
            .sum()
    };
    let (before, began) = (scraped(fleet), Instant::now());
    while began.elapsed() < Duration::from_secs(options.seconds) {
        let next = Instant::now() + Duration::from_secs(1);
        read(&address);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (samples, (after, rss, peak)) = (scraped(fleet) - before, usage(pid));
    let rate = samples as f64 / began.elapsed().as_secs_f64();
    let series = options.targets * options.series;
    println!(
        "inferometer: {rate:.0} samples/s scraped, exposition of {shown} samples ({:.1} MB) read every second: {:.3} µs CPU a sample, {:.1} MiB RSS ({:.1} peak)",
        bytes as f64 / 1e6,
        (after - cpu) * 1e6 / samples as f64,
        mib(rss),
        mib(peak)
    );
    println!(
        "state: {:.1} MiB RSS before the first read, {:.1} without targets: {} bytes a series",
        mib(unread),
        mib(before_warm),
        unread.saturating_sub(before_warm) / series as u64
    );
}

/// Prometheus in agent mode, which scrapes into its write-ahead log, as Debian ships it.
fn prometheus(options: &Options, fleet: &BulkFleet, dir: &Path) {
    if Command::new("prometheus")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        println!("prometheus: not installed, left out");
        return;
    }
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: engines\n  file_sd_configs: [{{files: ['{}']}}]\nremote_write: []\n",
        dir.join("targets.json").display()
    );
    std::fs::write(dir.join("prometheus.yml"), config).unwrap();
    let child = pinned("prometheus", "0")
        .current_dir(dir)
        .args([
            "--enable-feature=agent",
            "--config.file=prometheus.yml",
            "--storage.agent.path=wal",
        ])
        .args(["--web.listen-address=127.0.0.1:0", "--log.level=error"])
        .spawn();
    let child = Running(child.expect("prometheus starts"));
    std::thread::sleep(Duration::from_secs(options.warmup));
    let scraped = |fleet: &BulkFleet| -> u64 {
        fleet
            .scrapes()
            .iter()
            .enumerate()
            .map(|(target, count)| count * fleet.series(target) as u64)
            .sum()
    };
    let (cpu, _, _) = usage(child.0.id());
    let (before, began) = (scraped(fleet), Instant::now());
    std::thread::sleep(Duration::from_secs(options.seconds));
    let (samples, (after, rss, _)) = (scraped(fleet) - before, usage(child.0.id()));
    println!(
        "prometheus agent (scrape to WAL): {:.0} samples/s: {:.3} µs CPU a sample, {:.1} MiB RSS",
        samples as f64 / began.elapsed().as_secs_f64(),
        (after - cpu) * 1e6 / samples as f64,
        mib(rss)
    );
}
