//! What is measured without a cluster: proofs.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use callgate::controller::Fleet;
use callgate::filter;
use callgate::meaning::Meaning;
use callgate::profile::{Profile, ProfileName};
use callgate::proof::{self, Prover};
use callgate::startability::StartAnswers;
use callgate::testload::{Client, ForkServer, Limits, Verdict};

use crate::bed::callgate;
use crate::profiles::Size;
use crate::report::Report;
use crate::scenes::{REPEATS, WARM_UP};

/// Of a fork server of its own.
fn client() -> Result<Client> {
    let server = ForkServer::start_program(callgate(), Limits::default())?;
    Ok(Client::new(server))
}

/// One that remembers nothing yet.
fn prover() -> Result<Prover> {
    Ok(Prover::new(client()?, Vec::new()))
}

/// Compile and load in the fork server's children, without a cluster and without the cache.
pub(crate) async fn test_load(report: &mut Report, size: Size, runs: u16) -> Result<()> {
    let client = client()?;
    let mut samples = Vec::new();
    for number in 0..WARM_UP + usize::from(runs) {
        let profile = size.canonical(number)?;
        let started = Instant::now();
        let verdict = client.test_load("bench", &profile).await;
        samples.push(started.elapsed());
        let Verdict::Passed { .. } = verdict else {
            bail!("the {} profile: {verdict:?}", size.describe())
        };
    }
    let budget = if size == Size::DockerAllArchitectures {
        "1.5 × libseccomp in C"
    } else {
        ""
    };
    report.times(
        format!("test-load: {}", size.describe()),
        budget,
        &samples[WARM_UP..],
    );
    Ok(())
}

/// Everything that is asked of a profile nobody has seen: parse, rules, meaning, compile, load, start.
pub(crate) async fn verdict(report: &mut Report, size: Size, runs: u16) -> Result<()> {
    let prover = prover()?;
    let mut samples = Vec::new();
    for number in 0..WARM_UP + usize::from(runs) {
        let spec = size.spec(number)?;
        let started = Instant::now();
        let Ok(read) = prover.read(&spec) else {
            bail!("the {} profile is refused", size.describe())
        };
        let verdict = prover.prove("bench", read).await;
        samples.push(started.elapsed());
        let proof::Verdict::Valid(_) = verdict else {
            bail!("the {} profile: {verdict:?}", size.describe())
        };
    }
    report.times(
        format!("full verdict: {}", size.describe()),
        "",
        &samples[WARM_UP..],
    );
    Ok(())
}

/// The proof of meaning and of the start alone, in this process.
pub(crate) fn meaning(report: &mut Report, size: Size, runs: u16) -> Result<()> {
    let mut samples = Vec::new();
    for number in 0..WARM_UP + usize::from(runs) {
        let profile = Profile::from_canonical(&size.canonical(number)?.bytes)
            .map_err(|findings| anyhow!("the profile is invalid: {findings:?}"))?;
        let filter = filter::compile(&profile)?;
        let started = Instant::now();
        let calls = filter::resolve(&profile)?;
        let mut meaning = Meaning::of(&profile, &calls)?;
        let differences = meaning.compare(&filter.program)?;
        let start = calls
            .first()
            .map(|native| StartAnswers::of(&profile, native, &mut meaning));
        samples.push(started.elapsed());
        if !differences.is_empty() || start.is_none() {
            bail!("the {} profile: {differences:?}", size.describe())
        }
    }
    let budget = if size == Size::DockerAllArchitectures {
        "10 ms"
    } else {
        ""
    };
    report.times(
        format!("proof of meaning alone: {}", size.describe()),
        budget,
        &samples[WARM_UP..],
    );
    Ok(())
}

/// The controller's fold of the reports of a thousand nodes, each with two hundred profiles.
pub(crate) async fn fold(report: &mut Report, runs: u16) -> Result<()> {
    const NODES: usize = 1000;
    const PROFILES: usize = 200;
    let prover = prover()?;
    let Ok(read) = prover.read(&Size::Small.spec(0)?) else {
        bail!("the small profile is refused")
    };
    let verdict = prover.prove("bench", read).await;
    let names = (0..PROFILES).map(|number| ProfileName::new("bench", format!("p{number}")));
    let names: Vec<ProfileName> = names.collect::<Result<_, _>>()?;
    let fleet = Fleet::that_has(&names[0], &verdict, NODES, &names[1..]);
    let mut samples = Vec::new();
    for _ in 0..WARM_UP + usize::from(runs) {
        let started = Instant::now();
        let is_ready = fleet.is_ready();
        samples.push(started.elapsed());
        if !is_ready {
            bail!("a profile that every node has is not Ready")
        }
    }
    report.times(
        format!("fold of {NODES} reports of {PROFILES} profiles"),
        "1 ms",
        &samples[WARM_UP..],
    );
    Ok(())
}

/// `callgate check` of a folder of files, each with a Docker-size profile for one architecture.
pub(crate) fn check(report: &mut Report, count: u16) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for number in 0..count {
        let file = folder.path().join(format!("{number}.json"));
        std::fs::write(file, Size::Docker.canonical(number.into())?.bytes)?;
    }
    let mut samples = Vec::new();
    for _ in 0..REPEATS {
        let started = Instant::now();
        let output = Command::new(callgate())
            .args(["check", "--format", "json"])
            .arg(folder.path())
            .output()?;
        samples.push(started.elapsed());
        if !output.status.success() {
            bail!("callgate check: {}", String::from_utf8_lossy(&output.stderr))
        }
    }
    report.times(format!("check of {count} files"), "", &samples);
    Ok(())
}

/// What a profile costs that was proven before: reading it, and the look into the cache.
pub(crate) async fn cached(report: &mut Report, size: Size, runs: u16) -> Result<()> {
    let prover = prover()?;
    let spec = size.spec(0)?;
    let (mut reads, mut proofs) = (Vec::new(), Vec::new());
    for _ in 0..WARM_UP + usize::from(runs) {
        let started = Instant::now();
        let read = prover.read(&spec);
        reads.push(started.elapsed());
        let Ok(read) = read else {
            bail!("the {} profile is refused", size.describe())
        };
        let started = Instant::now();
        let verdict = prover.prove("bench", read).await;
        proofs.push(started.elapsed());
        let proof::Verdict::Valid(_) = verdict else {
            bail!("the {} profile: {verdict:?}", size.describe())
        };
    }
    let describe = size.describe();
    report.times(
        format!("parse, rules, canonical form, digest: {describe}"),
        "",
        &reads[WARM_UP..],
    );
    report.times(format!("cached verdict: {describe}"), "10 µs", &proofs[WARM_UP..]);
    Ok(())
}
