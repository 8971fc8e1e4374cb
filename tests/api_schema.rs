//! What the API server itself makes of the custom resource definitions: every rule with an example that it takes and
//! one that it refuses, and the message a person then reads.

use anyhow::{Context as _, Result, ensure};
use callgate::api::{
    Arg, Failure, FailureGroup, LiveSet, SeccompNode, SeccompNodeReport, SeccompProfile, SeccompProfileSpec,
    Syscall, Uint64, crd_files, crds,
};
use callgate::profile::{Action, Architecture, Digest, Errno, Flag, Operator, ProfileName};
use harness::{Cluster, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

#[path = "api_schema/bounds.rs"]
mod bounds;

/// One cluster for the tests of this file, with the definitions and without policies.
async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_try_init(async || {
            let cluster = Cluster::start().await?;
            for file in crd_files()? {
                cluster
                    .kubectl(&["apply", "--server-side", "-f", "-"], &file.yaml)
                    .await?
                    .ok()?;
            }
            let names = [
                "crd/seccompprofiles.callgate.dev",
                "crd/seccompnodes.callgate.dev",
            ];
            let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
            cluster.kubectl(&[&wait[..], &names].concat(), "").await?.ok()?;
            Ok(cluster)
        })
        .await
}

fn profiles(client: Client) -> Api<DynamicObject> {
    Api::namespaced_with(client, "default", &ApiResource::erase::<SeccompProfile>(&()))
}

fn object(name: &str, spec: &Value) -> Result<DynamicObject> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }))?)
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

/// What the API server says to an object with this name and spec; empty where it takes it.
async fn answer(api: &Api<DynamicObject>, name: &str, spec: &Value) -> Result<String> {
    match api.create(&dry_run(), &object(name, spec)?).await {
        Ok(_) => Ok(String::new()),
        Err(kube::Error::Api(status)) => Ok(status.message.clone()),
        Err(other) => Err(other.into()),
    }
}

fn allowing(field: &str, value: Value) -> Value {
    let mut spec = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    spec[field] = value;
    spec
}

fn with_default(action: &str, field: &str, value: Value) -> Value {
    let mut spec = json!({
        "defaultAction": action,
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
    });
    spec[field] = value;
    spec
}

fn entry(field: &str, value: Value) -> Value {
    let mut entry = json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO"});
    entry[field] = value;
    allowing("syscalls", json!([entry]))
}

fn arg(field: &str, value: Value) -> Value {
    let mut arg = json!({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"});
    arg[field] = value;
    entry("args", json!([arg]))
}

fn notify(field: &str, value: Value) -> Value {
    let mut spec = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/seccomp.sock",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}],
    });
    spec[field] = value;
    spec
}

fn without(mut spec: Value, field: &str) -> Value {
    if let Some(members) = spec.as_object_mut() {
        members.remove(field);
    }
    spec
}

#[tokio::test]
async fn what_is_no_value_of_a_field_is_refused_with_a_message_that_says_what_to_write() -> Result<()> {
    let refused = [
        (json!({}), "spec.defaultAction: Required value"),
        (
            json!({"defaultAction": "SCMP_ACT_NO"}),
            r#"supported values: "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS""#,
        ),
        (
            with_default("SCMP_ACT_ERRNO", "defaultErrnoRet", json!("1")),
            "must be of type integer",
        ),
        (
            with_default("SCMP_ACT_ERRNO", "defaultErrnoRet", json!(1.5)),
            "must be of type int",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO"}),
            "spec.syscalls: Required value: the default action denies every system call and no entry allows one",
        ),
        (
            allowing("architectures", json!(["SCMP_ARCH_NATIVE"])),
            r#"Unsupported value: "SCMP_ARCH_NATIVE""#,
        ),
        (
            allowing("flags", json!(["SECCOMP_FILTER_FLAG_NEW_LISTENER"])),
            "Unsupported value",
        ),
        (
            notify("listenerPath", json!("")),
            "listenerPath is the absolute path of a socket",
        ),
        (
            entry("names", json!([""])),
            "spec.syscalls[0].names[0] in body should match",
        ),
        (entry("names", json!(["Read"])), "should match"),
        (entry("names", json!(["open "])), "should match"),
        (entry("names", json!([true])), "must be of type string"),
        (
            entry(
                "args",
                json!(vec![json!({"index": 2, "value": 1, "op": "SCMP_CMP_EQ"}); 2]),
            ),
            "two conditions on argument 2 in one entry mean OR in every runtime",
        ),
        (
            arg("value", json!(-1)),
            r#"not an unsigned 64-bit number: write an integer from 0 to 9223372036854775807, or a string, decimal to "18446744073709551615" or 0x and 1 to 16 hexadecimal digits; -1 is "0xffffffffffffffff""#,
        ),
        (
            arg("value", json!("99999999999999999999")),
            "not an unsigned 64-bit number",
        ),
        (
            arg("value", json!("0x10000000000000000")),
            "not an unsigned 64-bit number",
        ),
        (arg("value", json!("0X1")), "not an unsigned 64-bit number"),
        (arg("value", json!("010")), "not an unsigned 64-bit number"),
        (arg("value", json!("-1")), "not an unsigned 64-bit number"),
        (arg("value", json!("one")), "not an unsigned 64-bit number"),
        (arg("value", json!("")), "not an unsigned 64-bit number"),
        (
            arg("value", json!("1.0")),
            "spec.syscalls[0].args[0].value in body should match",
        ),
        (
            arg("value", json!("1 ")),
            "spec.syscalls[0].args[0].value in body should match",
        ),
        (arg("valueTwo", json!("0x")), "valueTwo in body should match"),
        (arg("value", json!(u64::MAX)), "must be of type integer,string"),
        (arg("value", json!(1.5)), "must be of type integer,string"),
        (
            arg("value", json!(null)),
            "spec.syscalls[0].args[0].value: Required value",
        ),
    ];
    let api = profiles(cluster().await?.admin().await?);
    for (spec, message) in refused {
        let answer = answer(&api, "refused", &spec).await?;
        let shown: String = spec.to_string().chars().take(300).collect();
        ensure!(
            answer.contains(message),
            "{shown}\nexpected: {message}\nanswered: {answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn each_key_of_dockers_format_is_refused_once_with_the_command_that_resolves_it() -> Result<()> {
    // Of a hundred entries each key stands in those from the first to the last.
    let keys = [
        ("includes", json!({"caps": ["CAP_SYS_ADMIN"]}), 3, 90),
        ("excludes", json!({}), 5, 6),
        ("name", json!("read"), 0, 99),
        ("errno", json!("EPERM"), 99, 99),
        ("comment", json!(""), 2, 50),
    ];
    let mut entries = vec![json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"}); 100];
    for (key, value, first, last) in &keys {
        for entry in &mut entries[*first..=*last] {
            entry[*key] = value.clone();
        }
    }
    let spec = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrno": "EPERM",
        "archMap": vec![json!({"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}); 8],
        "syscalls": entries,
    });
    let api = profiles(cluster().await?.admin().await?);
    let Err(kube::Error::Api(status)) = api.create(&dry_run(), &object("docker", &spec)?).await else {
        anyhow::bail!("it was taken");
    };
    let causes = status.details.context("no details")?.causes;
    let told: Vec<_> = causes
        .iter()
        .map(|cause| (cause.field.clone(), cause.message.as_str()))
        .collect();
    let in_entries = keys.iter().map(|(key, _, first, last)| {
        let end = format!(" (first in syscalls[{first}], {} in all)", last - first + 1);
        ("spec.syscalls".to_owned(), *key, end)
    });
    let of_spec = ["archMap", "defaultErrno"].map(|key| (format!("spec.{key}"), key, String::new()));
    let expected: Vec<_> = in_entries.chain(of_spec).collect();
    ensure!(told.len() == expected.len(), "{told:#?}");
    for (field, key, end) in expected {
        let begin = format!("Forbidden: {key} is a key of Docker's profile format; ");
        ensure!(
            told.iter().any(|(of, message)| *of == field
                && message.starts_with(&begin)
                && message.contains("let callgate resolve")
                && message.ends_with(&end)),
            "{field}, {begin}, {end} in {told:#?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_spec_that_keeps_the_rules_is_taken() -> Result<()> {
    let one_of_each = |actions: &[Action]| -> Value {
        actions
            .iter()
            .map(|action| json!({"names": ["mount"], "action": action.as_str()}))
            .collect()
    };
    let api = profiles(cluster().await?.admin().await?);
    let accepted = [
        json!({"defaultAction": "SCMP_ACT_ALLOW"}),
        json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": []}),
        with_default("SCMP_ACT_ERRNO", "defaultErrnoRet", json!(0)),
        with_default("SCMP_ACT_TRACE", "defaultErrnoRet", json!(Errno::MAX)),
        with_default("SCMP_ACT_KILL_PROCESS", "flags", json!([])),
        allowing("architectures", json!([])),
        allowing("architectures", json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"])),
        allowing("architectures", json!(["SCMP_ARCH_S390X", "SCMP_ARCH_MIPS"])),
        allowing(
            "flags",
            json!([
                "SECCOMP_FILTER_FLAG_TSYNC",
                "SECCOMP_FILTER_FLAG_LOG",
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
            ]),
        ),
        notify("flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])),
        notify("listenerPath", json!(format!("/{}", "s".repeat(106)))),
        notify("listenerMetadata", json!("m".repeat(4096))),
        notify("syscalls", one_of_each(Action::ALL)),
        entry("names", json!(vec!["a".repeat(64); 1024])),
        entry("names", json!(["_llseek", "clone3"])),
        entry("errnoRet", json!(0)),
        entry("args", json!([])),
        entry(
            "args",
            (0..6)
                .map(|index| json!({"index": index, "value": 1, "op": "SCMP_CMP_EQ"}))
                .collect(),
        ),
        arg("value", json!(i64::MAX)),
        arg("value", json!("18446744073709551615")),
        arg("value", json!("9")),
        arg("value", json!("0xffffFFFFffffffff")),
        arg("valueTwo", json!(0)),
        allowing(
            "nodeSelector",
            json!({"kubernetes.io/arch": "amd64", "empty": ""}),
        ),
        allowing("acceptFindings", json!(["unknown-syscall", "not-portable-2"])),
        allowing(
            "acceptFindings",
            json!((0..64).map(|n| format!("code-{n}")).collect::<Vec<_>>()),
        ),
    ];
    for spec in accepted {
        let answer = answer(&api, "accepted", &spec).await?;
        let shown: String = spec.to_string().chars().take(300).collect();
        ensure!(answer.is_empty(), "{shown}\n{answer}");
    }
    for operator in Operator::ALL {
        let answer = answer(&api, "accepted", &arg("op", json!(operator.as_str()))).await?;
        ensure!(answer.is_empty(), "{operator}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn the_largest_profile_is_within_the_cost_budget() -> Result<()> {
    let args: Value = (0..6)
        .map(|index| json!({"index": index, "value": "0xffffffffffffffff", "valueTwo": "18446744073709551615", "op": "SCMP_CMP_MASKED_EQ"}))
        .collect();
    let syscalls: Vec<_> = (0..1024)
        .map(|number| json!({"names": [format!("syscall_{number}")], "action": "SCMP_ACT_ERRNO", "args": args}))
        .collect();
    let api = profiles(cluster().await?.admin().await?);
    let answer = answer(&api, "largest", &allowing("syscalls", json!(syscalls))).await?;
    ensure!(answer.is_empty(), "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_name_of_a_profile_fits_a_file_name() -> Result<()> {
    let api = profiles(cluster().await?.admin().await?);
    let spec = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    let longest = "n".repeat(ProfileName::MAX_NAME);
    ensure!(answer(&api, &longest, &spec).await?.is_empty());
    let answer = answer(&api, &format!("{longest}n"), &spec).await?;
    ensure!(
        answer.contains("metadata.name: ")
            && answer.contains("the name of a profile has at most 250 characters"),
        "{answer}"
    );
    Ok(())
}

/// Every field and value of the specification, in as many profiles as their rules ask for.
fn everything() -> Vec<SeccompProfileSpec> {
    let (big, little): (Vec<_>, Vec<_>) = Architecture::ALL
        .iter()
        .partition(|architecture| architecture.is_big_endian());
    let text =
        |architectures: Vec<&Architecture>| Some(architectures.iter().map(ToString::to_string).collect());
    let args = |offset: usize| -> Vec<Arg> {
        let numbers = [
            Uint64::from(0),
            Uint64::from(u64::MAX),
            Uint64::Int(i64::MAX),
            Uint64::Text("0xFFFFffff00000000".to_owned()),
            Uint64::Text("9223372036854775808".to_owned()),
            Uint64::Text("0".to_owned()),
        ];
        let operators = Operator::ALL.iter().cycle().skip(offset);
        (0..6)
            .zip(numbers)
            .zip(operators)
            .map(|((index, value), operator)| Arg {
                index,
                value_two: (index % 2 == 0).then(|| value.clone()),
                value,
                op: operator.to_string(),
            })
            .collect()
    };
    let syscalls = Action::ALL
        .iter()
        .enumerate()
        .map(|(number, action)| Syscall {
            names: vec!["mount".to_owned(), format!("call_{number}")],
            action: action.to_string(),
            errno_ret: action.takes_errno().then_some(0),
            args: Some(args(number)),
        })
        .collect();
    let flags = |with: &[Flag]| Some(with.iter().map(ToString::to_string).collect());
    let notifying = SeccompProfileSpec {
        default_action: Action::Errno.to_string(),
        default_errno_ret: Some(0),
        architectures: text(little),
        flags: flags(&[Flag::Log, Flag::SpecAllow, Flag::WaitKillableRecv]),
        listener_path: Some("/run/callgate/listener.sock".to_owned()),
        listener_metadata: Some("ünïcode\t{\"a\": 1}".to_owned()),
        syscalls: Some(syscalls),
        node_selector: Some([("kubernetes.io/arch".to_owned(), "amd64".to_owned())].into()),
        accept_findings: Some(vec!["unknown-syscall".to_owned()]),
    };
    let synchronous = SeccompProfileSpec {
        default_action: Action::Trace.to_string(),
        default_errno_ret: Some(i32::from(Errno::MAX)),
        architectures: text(big),
        flags: flags(&[Flag::Tsync]),
        syscalls: Some(vec![Syscall {
            names: vec!["read".to_owned()],
            action: Action::Allow.to_string(),
            errno_ret: None,
            args: Some(Vec::new()),
        }]),
        ..SeccompProfileSpec::default()
    };
    vec![notifying, synchronous]
}

#[tokio::test]
async fn every_field_and_value_of_the_specification_survives_the_round_trip() -> Result<()> {
    let client = cluster().await?.admin().await?;
    let api = Api::<SeccompProfile>::namespaced(client.clone(), "default");
    for (number, spec) in everything().into_iter().enumerate() {
        let name = format!("round-trip-{number}");
        api.create(&PostParams::default(), &SeccompProfile::new(&name, spec.clone()))
            .await?;
        let typed = api.get(&name).await?;
        ensure!(typed.spec == spec, "{:#?}", typed.spec);
        let stored = profiles(client.clone()).get(&name).await?;
        ensure!(
            stored.data["spec"] == serde_json::to_value(&spec)?,
            "{:#}",
            stored.data["spec"]
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_new_profile_shows_unknown_conditions_at_once_and_kubectl_prints_them() -> Result<()> {
    let cluster = cluster().await?;
    let api = Api::<SeccompProfile>::namespaced(cluster.admin().await?, "default");
    let spec = SeccompProfileSpec {
        default_action: Action::Allow.to_string(),
        ..SeccompProfileSpec::default()
    };
    api.create(&PostParams::default(), &SeccompProfile::new("fresh", spec))
        .await?;
    let columns = async |arguments: &[&str]| -> Result<Vec<Vec<String>>> {
        let table = cluster
            .kubectl(&[&["get", "scp", "fresh"], arguments].concat(), "")
            .await?
            .ok()?;
        let split = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Ok(table.lines().map(split).collect())
    };
    let table = columns(&[]).await?;
    assert_eq!(table[0], ["NAME", "VALID", "READY", "LOCALHOST PROFILE", "AGE"]);
    assert_eq!(table[1][..3], ["fresh", "Unknown", "Unknown"]);

    let status = json!({"status": {
        "localhostProfile": "callgate/default/fresh.json",
        "digest": Digest::of(b"{}").to_string(),
        "conditions": [
            {"type": "Valid", "status": "True", "reason": "Proven", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "False", "reason": "Installing", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ],
    }});
    api.patch_status("fresh", &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    let table = columns(&["-o", "wide"]).await?;
    assert_eq!(
        table[0],
        [
            "NAME",
            "VALID",
            "READY",
            "LOCALHOST PROFILE",
            "DIGEST",
            "REASON",
            "AGE"
        ]
    );
    let digest = Digest::of(b"{}").to_string();
    assert_eq!(
        table[1][..6],
        [
            "fresh",
            "True",
            "False",
            "callgate/default/fresh.json",
            &digest,
            "Installing"
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_node_report_as_large_as_its_bounds_allow_is_stored() -> Result<()> {
    let digest = Digest::of(b"{}");
    let names: Vec<_> = (0..SeccompNodeReport::MAX_PROFILES)
        .map(|number| ProfileName::new("team", format!("profile-{number}")))
        .collect::<Result<_, _>>()?;
    let longest = format!("{}/{}", "n".repeat(63), "p".repeat(250));
    let failure = Failure {
        profile: longest.clone(),
        generation: i64::MAX,
        digest: Some(digest.to_string()),
        live_digest: Some(digest.to_string()),
        message: "m".repeat(512),
    };
    let group = FailureGroup {
        reason: "Reason".to_owned(),
        total: u32::MAX,
        profiles: vec![failure; FailureGroup::MAX_PROFILES],
    };
    let report = SeccompNodeReport {
        profiles: names.iter().map(|name| (name, &digest)).collect::<LiveSet>(),
        failures: vec![group; SeccompNodeReport::MAX_FAILURE_GROUPS],
        in_use: vec![longest; SeccompNodeReport::MAX_IN_USE],
        ..SeccompNodeReport::default()
    };
    let api = Api::<SeccompNode>::all(cluster().await?.admin().await?);
    let sent = SeccompNode::new("largest", report);
    let stored = api.create(&PostParams::default(), &sent).await?;
    ensure!(stored.spec == sent.spec);
    ensure!(stored.spec.profiles.contains(&names[7], &digest));
    Ok(())
}

#[tokio::test]
async fn the_stored_definitions_are_the_files_in_crds() -> Result<()> {
    let api = Api::<CustomResourceDefinition>::all(cluster().await?.admin().await?);
    for file in crd_files()? {
        let path = harness::repository().join("crds").join(&file.name);
        let mut expected: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        // What the API server adds.
        expected["spec"]["conversion"] = json!({"strategy": "None"});
        let kind = expected["spec"]["names"]["kind"].as_str().context("no kind")?;
        expected["spec"]["names"]["listKind"] = json!(format!("{kind}List"));
        let name = expected["metadata"]["name"].as_str().context("no name")?;
        let stored = serde_json::to_value(api.get(name).await?.spec)?;
        // Both through the same type, which knows one spelling of numbers.
        let expected: CustomResourceDefinition = serde_json::from_value(expected)?;
        pretty_equal(&stored, &serde_json::to_value(expected.spec)?)?;
    }
    Ok(())
}

fn pretty_equal(left: &Value, right: &Value) -> Result<()> {
    let (left, right) = (format!("{left:#}"), format!("{right:#}"));
    if let Some((line, (left, right))) = left
        .lines()
        .zip(right.lines())
        .enumerate()
        .find(|(_, (left, right))| left != right)
    {
        anyhow::bail!("line {line}:\n{left}\n{right}");
    }
    ensure!(left == right, "one is longer");
    Ok(())
}

#[tokio::test]
async fn kubectl_explains_every_field_in_sentences() -> Result<()> {
    let cluster = cluster().await?;
    for (field, sentences) in [
        (
            "scp.spec.syscalls.args.op",
            vec![
                "SCMP_CMP_EQ: it equals",
                "SCMP_CMP_MASKED_EQ: its bits under the mask equal",
                "SCMP_CMP_LE",
            ],
        ),
        (
            "scp.spec.syscalls.args.value",
            vec!["Unsigned, 64 bits", "for SCMP_CMP_MASKED_EQ the mask"],
        ),
        ("scp.spec.syscalls.args.index", vec!["from 0 to 5"]),
        ("scp.spec.syscalls.errnoRet", vec!["EPERM (1) where it is absent"]),
        (
            "scp.spec.nodeSelector",
            vec!["Every node gets it where this is absent"],
        ),
        (
            "scp.status.conditions",
            vec!["Ready: every selected node that can be asked has it"],
        ),
        ("seccompnode.inUse", vec!["NAMESPACE/NAME"]),
    ] {
        let explained = cluster.kubectl(&["explain", field], "").await?.ok()?;
        let words = explained.split_whitespace().collect::<Vec<_>>().join(" ");
        for sentence in sentences {
            ensure!(
                words.contains(sentence),
                "{field} lacks {sentence:?}:\n{explained}"
            );
        }
    }
    Ok(())
}

/// The definition as an older version might have had it: the same fields, without a rule or a bound.
fn older(crd: &CustomResourceDefinition) -> Result<CustomResourceDefinition> {
    fn relax(schema: &mut Value) {
        match schema {
            Value::Object(keywords) => {
                for keyword in [
                    "x-kubernetes-validations",
                    "enum",
                    "pattern",
                    "maxLength",
                    "maxItems",
                    "minItems",
                    "maximum",
                    "minimum",
                ] {
                    keywords.remove(keyword);
                }
                keywords.values_mut().for_each(relax);
            }
            Value::Array(elements) => elements.iter_mut().for_each(relax),
            _ => {}
        }
    }
    let mut crd = serde_json::to_value(crd)?;
    relax(&mut crd["spec"]["versions"][0]["schema"]);
    Ok(serde_json::from_value(crd)?)
}

#[tokio::test]
async fn an_older_object_that_a_new_rule_would_refuse_can_still_be_labelled_and_deleted() -> Result<()> {
    const GROUP: &str = "older.callgate.test";
    let client = cluster().await?.admin().await?;
    // In a group of its own, so that no other test meets the older definition.
    let mut new = crds().remove(0);
    GROUP.clone_into(&mut new.spec.group);
    new.metadata.name = Some(format!("seccompprofiles.{GROUP}"));
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let apply = PatchParams::apply("test").force();
    definitions
        .patch(&new.name_any(), &apply, &Patch::Apply(&older(&new)?))
        .await?;

    let resource = ApiResource {
        group: GROUP.to_owned(),
        api_version: format!("{GROUP}/v1alpha1"),
        ..ApiResource::erase::<SeccompProfile>(&())
    };
    let api = Api::<DynamicObject>::namespaced_with(client, "default", &resource);
    let long = "n".repeat(253);
    let broken = |name: &str| -> Result<DynamicObject> {
        let mut object = object(
            name,
            &json!({
                "defaultAction": "SCMP_ACT_KILL",
                "defaultErrnoRet": 5000,
                "architectures": ["SCMP_ARCH_NATIVE"],
                "syscalls": [{"names": [], "action": "DENY", "comment": "x", "args": [{"index": 9, "value": "x", "op": "y"}]}],
            }),
        )?;
        object.types = Some(kube::api::TypeMeta {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
        });
        Ok(object)
    };
    eventually("the older definition to be served", async || {
        api.create(&PostParams::default(), &broken(&long)?).await?;
        Ok(())
    })
    .await?;

    definitions
        .patch(&new.name_any(), &apply, &Patch::Apply(&new))
        .await?;
    eventually("the new definition to be in force", async || {
        ensure!(
            api.create(&dry_run(), &broken("other")?).await.is_err(),
            "still taken"
        );
        Ok(())
    })
    .await?;

    let label = json!({"metadata": {"labels": {"a": "b"}}});
    api.patch(&long, &PatchParams::default(), &Patch::Merge(&label))
        .await
        .context("label")?;
    let status = json!({"status": {"observedGeneration": 1}});
    api.patch_status(&long, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .context("status")?;
    let worse = json!({"spec": {"defaultErrnoRet": 5001}});
    let refused = api
        .patch(&long, &PatchParams::default(), &Patch::Merge(&worse))
        .await;
    ensure!(refused.is_err(), "a change of the broken field was taken");
    api.delete(&long, &DeleteParams::default())
        .await
        .context("delete")?;
    Ok(())
}
