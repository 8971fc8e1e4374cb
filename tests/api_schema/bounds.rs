//! Every rule and every bound that the definitions have, read from them: what lies just within it is taken, and what
//! lies just beyond it is refused in its words. A rule without an example fails this test.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use callgate::api::{SeccompNode, SeccompProfile, crd_files};
use callgate::profile::{Architecture, ProfileName};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};

use super::{allowing, arg, cluster, dry_run, entry, notify, object, profiles, with_default, without};

/// What the schema asks of the value at one place.
#[derive(Debug)]
struct Constraint {
    /// Where the value is in a sample: the first element of every list.
    pointer: String,
    keyword: String,
    bound: Value,
}

impl Constraint {
    /// Everything that a schema asks of itself and of what is in it.
    fn all(schema: &Value, pointer: &str, found: &mut Vec<Self>) {
        const KEYWORDS: [&str; 11] = [
            "x-kubernetes-validations",
            "required",
            "enum",
            "pattern",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "maxProperties",
        ];
        for keyword in KEYWORDS {
            let bounds = match &schema[keyword] {
                Value::Null => continue,
                Value::Array(each) if keyword != "enum" => each.clone(),
                one => vec![one.clone()],
            };
            found.extend(bounds.into_iter().map(|bound| Self {
                pointer: pointer.to_owned(),
                keyword: keyword.to_owned(),
                bound,
            }));
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            Self::all(property, &format!("{pointer}/{name}"), found);
        }
        for (child, name) in [("items", "0"), ("additionalProperties", "label")] {
            if schema[child].is_object() {
                Self::all(&schema[child], &format!("{pointer}/{name}"), found);
            }
        }
    }

    /// The field that the API server names, and the words that it has for it.
    fn refusal(&self) -> Result<(String, String)> {
        let bound = &self.bound;
        let text = bound.as_str().unwrap_or_default();
        let mut field = self.pointer.replace("/0", "[]").replace('/', ".");
        let words = match self.keyword.as_str() {
            "x-kubernetes-validations" => {
                field += bound["fieldPath"].as_str().unwrap_or_default();
                match bound["messageExpression"].as_str() {
                    // What stands before the first number.
                    Some(expression) => expression[1..].split("%d").next().unwrap_or_default().to_owned(),
                    None => bound["message"]
                        .as_str()
                        .context("a rule without a message")?
                        .to_owned(),
                }
            }
            "required" => {
                field = format!("{field}.{text}");
                "Required value".to_owned()
            }
            "enum" => "Unsupported value".to_owned(),
            "pattern" => format!("should match '{text}'"),
            "minimum" => format!("should be greater than or equal to {bound}"),
            "maximum" => format!("should be less than or equal to {bound}"),
            "minLength" => format!("should be at least {bound} chars long"),
            "maxLength" => format!("may not be more than {bound}"),
            "minItems" => format!("should have at least {bound} items"),
            "maxItems" | "maxProperties" => format!("must have at most {bound} items"),
            other => anyhow::bail!("{other} has no words"),
        };
        Ok((field.trim_start_matches('.').to_owned(), words))
    }

    /// What lies within and beyond, made from the bound itself; nothing where that takes imagination.
    fn example(&self, sample: &Value) -> Result<Option<Example>> {
        let there = || {
            sample
                .pointer(&self.pointer)
                .with_context(|| format!("the sample has no {}", self.pointer))
        };
        let number = self.bound.as_i64();
        let size = usize::try_from(number.unwrap_or_default())?;
        let (within, beyond) = match self.keyword.as_str() {
            "required" => {
                let mut less = there()?.clone();
                let key = self.bound.as_str().context("a key")?;
                less.as_object_mut()
                    .and_then(|members| members.remove(key))
                    .with_context(|| format!("the sample has no {}/{key}", self.pointer))?;
                (there()?.clone(), less)
            }
            "enum" => (there()?.clone(), json!("NO_SUCH")),
            "minimum" => (json!(number), json!(number.context("a number")? - 1)),
            "maximum" => (json!(number), json!(number.context("a number")? + 1)),
            "minLength" => (text(there()?, size)?, text(there()?, size - 1)?),
            "maxLength" => (text(there()?, size)?, text(there()?, size + 1)?),
            "minItems" => (
                list(self.last(), there()?, size),
                list(self.last(), there()?, size - 1),
            ),
            "maxItems" => (
                list(self.last(), there()?, size),
                list(self.last(), there()?, size + 1),
            ),
            "maxProperties" => (map(there()?, size), map(there()?, size + 1)),
            _ => return Ok(None),
        };
        let with = |value: Value| -> Result<Value> {
            let mut object = sample.clone();
            *object.pointer_mut(&self.pointer).context("as above")? = value;
            Ok(object)
        };
        Ok(Some(Example {
            within: with(within)?,
            beyond: with(beyond)?,
        }))
    }

    fn last(&self) -> &str {
        self.pointer.rsplit('/').next().unwrap_or_default()
    }
}

/// A text of this length that begins as the sample does.
fn text(sample: &Value, length: usize) -> Result<Value> {
    let sample = sample.as_str().context("a text")?;
    let last = sample.chars().last().context("a text that is not empty")?;
    let text = sample.chars().chain(std::iter::repeat(last)).take(length);
    Ok(json!(text.collect::<String>()))
}

/// A list of this length, its elements different where they must be, or of as many as go together.
fn list(name: &str, sample: &Value, length: usize) -> Value {
    let numbered = |key: &str, value: &dyn Fn(usize) -> Value| {
        (0..length)
            .map(|number| {
                let mut element = sample[0].clone();
                element[key] = value(number);
                element
            })
            .collect()
    };
    match name {
        "conditions" => numbered("type", &|number| json!(format!("Type{number}"))),
        "args" => numbered("index", &|number| json!(number % 6)),
        "acceptFindings" => (0..length)
            .map(|number| json!(format!("code-{number}")))
            .collect(),
        "architectures" if length <= Architecture::ALL.len() => Architecture::ALL
            .iter()
            .filter(|architecture| !architecture.is_big_endian())
            .map(|architecture| json!(architecture.as_str()))
            .collect(),
        // TSYNC is the fourth, and goes with no listener.
        "flags" if length <= 4 => json!([
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
        ]),
        _ => sample
            .as_array()
            .into_iter()
            .flatten()
            .cycle()
            .take(length)
            .cloned()
            .collect(),
    }
}

fn map(sample: &Value, size: usize) -> Value {
    let members = (0..size).map(|number| (format!("label-{number}"), sample["label"].clone()));
    Value::Object(members.collect::<Map<_, _>>())
}

/// Two objects of one kind: the first is taken, the second is not.
struct Example {
    within: Value,
    beyond: Value,
}

impl Example {
    fn of_spec(within: Value, beyond: Value) -> Self {
        Self {
            within: under("spec", within),
            beyond: under("spec", beyond),
        }
    }

    fn of_status(field: &str, within: Value, beyond: Value) -> Self {
        Self {
            within: under("status", under(field, within)),
            beyond: under("status", under(field, beyond)),
        }
    }
}

/// An object with this one member.
fn under(field: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(field.to_owned(), value)]))
}

fn condition() -> Value {
    json!({"type": "Type", "status": "True", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "Reason", "message": "m"})
}

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Every field of a profile.
fn sample_profile() -> Value {
    json!({
        "spec": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/s",
            "listenerMetadata": "m",
            "syscalls": [
                {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                    "args": [{"index": 0, "value": "1", "valueTwo": "1", "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
            ],
            "nodeSelector": {"label": "v"},
            "acceptFindings": ["code"],
        },
    })
}

/// Every field of its status, which is written apart.
fn sample_status() -> Value {
    json!({
        "status": {
            "observedGeneration": 1,
            "localhostProfile": "callgate/default/bounds.json",
            "digest": DIGEST,
            "conditions": [condition()],
            "failures": [{"node": "n", "others": 1, "reason": "Reason", "message": "m", "liveDigest": DIGEST}],
            "failuresTotal": 1,
            "filters": [{"architecture": "SCMP_ARCH_X86_64", "instructions": 1}],
            "findings": [{"code": "code", "class": "lint", "field": "spec", "message": "m"}],
            "findingsTotal": 1,
        },
    })
}

/// Every field of the report of a node.
fn sample_node() -> Value {
    json!({
        "versions": {"agent": "1", "libseccomp": "2", "kernel": "6"},
        "profiles": "AAAA",
        "failures": [{"reason": "Reason", "total": 1, "profiles": [
            {"profile": "team/web", "generation": 1, "digest": DIGEST, "liveDigest": DIGEST, "message": "m"},
        ]}],
        "inUse": ["team/web"],
        "conditions": [condition()],
    })
}

/// What takes imagination: the rules and patterns of a spec.
#[expect(clippy::too_many_lines, reason = "a table")]
fn examples_of_specs() -> Vec<Example> {
    let killing = |field: &str, value: Value| with_default("SCMP_ACT_KILL", field, value);
    let pair = |first: u64, second: u64| {
        let one = |index: u64| json!({"index": index, "value": 1, "op": "SCMP_CMP_EQ"});
        entry("args", json!([one(first), one(second)]))
    };
    let notifying =
        |names: &[&str]| notify("syscalls", json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]));
    let docker = |key: &str, value: Value| (entry("names", json!(["socket"])), entry(key, value));
    let mut examples = vec![
        (
            with_default("SCMP_ACT_LOG", "flags", json!([])),
            with_default("SCMP_ACT_NOTIFY", "flags", json!([])),
        ),
        (
            with_default("SCMP_ACT_TRACE", "defaultErrnoRet", json!(1)),
            killing("defaultErrnoRet", json!(1)),
        ),
        (
            killing("flags", json!([])),
            json!({"defaultAction": "SCMP_ACT_KILL", "syscalls": []}),
        ),
        (
            notify("flags", json!([])),
            without(notify("flags", json!([])), "listenerPath"),
        ),
        (
            notify("listenerPath", json!("/s")),
            allowing("listenerPath", json!("/s")),
        ),
        (
            notify("listenerMetadata", json!("m")),
            allowing("listenerMetadata", json!("m")),
        ),
        (
            notify("listenerPath", json!("/s")),
            notify("listenerPath", json!("s")),
        ),
        (
            allowing("flags", json!(["SECCOMP_FILTER_FLAG_TSYNC"])),
            notify("flags", json!(["SECCOMP_FILTER_FLAG_TSYNC"])),
        ),
        (
            notify("flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])),
            allowing("flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])),
        ),
        (
            allowing("architectures", json!(["SCMP_ARCH_MIPS", "SCMP_ARCH_S390X"])),
            allowing("architectures", json!(["SCMP_ARCH_X86", "SCMP_ARCH_S390X"])),
        ),
        (notifying(&["mount", "writev"]), notifying(&["mount", "write"])),
        (
            entry("errnoRet", json!(1)),
            allowing(
                "syscalls",
                json!([{"names": ["socket"], "action": "SCMP_ACT_TRAP", "errnoRet": 1}]),
            ),
        ),
        (pair(2, 3), pair(2, 2)),
        (
            arg("value", json!("18446744073709551615")),
            arg("value", json!("18446744073709551616")),
        ),
        (arg("valueTwo", json!(0)), arg("valueTwo", json!(-1))),
        (arg("value", json!("0xa")), arg("value", json!("0xg"))),
        (arg("valueTwo", json!("10")), arg("valueTwo", json!("1O"))),
        (
            allowing("nodeSelector", json!({"example.com/a": "b"})),
            allowing("nodeSelector", json!({"example.com/a/b": "c"})),
        ),
        (
            allowing("nodeSelector", json!({"label": ""})),
            allowing("nodeSelector", json!({"label": "-"})),
        ),
        (
            entry("names", json!(["_llseek"])),
            entry("names", json!(["read-write"])),
        ),
        (
            allowing("acceptFindings", json!(["a-1"])),
            allowing("acceptFindings", json!(["a-"])),
        ),
        (
            allowing("architectures", json!(["SCMP_ARCH_X86_64"])),
            allowing(
                "archMap",
                json!([{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}]),
            ),
        ),
        (
            with_default("SCMP_ACT_ERRNO", "defaultErrnoRet", json!(1)),
            with_default("SCMP_ACT_ERRNO", "defaultErrno", json!("EPERM")),
        ),
        docker("includes", json!({"caps": ["CAP_SYS_ADMIN"]})),
        docker("excludes", json!({})),
        docker("name", json!("socket")),
        docker("errno", json!(1)),
        docker("comment", json!("")),
    ];
    for (field, one, other) in [
        ("architectures", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
        (
            "flags",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        ),
        ("acceptFindings", "a", "b"),
    ] {
        examples.push((
            allowing(field, json!([one, other])),
            allowing(field, json!([one, one])),
        ));
    }
    let of_spec = |(within, beyond)| Example::of_spec(within, beyond);
    let mut examples: Vec<_> = examples.into_iter().map(of_spec).collect();
    let named = |length: usize| json!({"metadata": {"name": "n".repeat(length)}, "spec": {"defaultAction": "SCMP_ACT_ALLOW"}});
    examples.push(Example {
        within: named(ProfileName::MAX_NAME),
        beyond: named(ProfileName::MAX_NAME + 1),
    });
    examples
}

/// A word of a condition, with an end that may not be.
fn conditions(reason: &str) -> Value {
    let mut condition = condition();
    condition["reason"] = json!(reason);
    json!([condition])
}

fn examples_of_status() -> Vec<Example> {
    let short = &DIGEST[..DIGEST.len() - 1];
    let failure = |digest: &str| {
        let mut failures = sample_status()["status"]["failures"].clone();
        failures[0]["liveDigest"] = json!(digest);
        failures
    };
    vec![
        Example::of_status("digest", json!(DIGEST), json!(short)),
        Example::of_status("failures", failure(DIGEST), failure(short)),
        Example::of_status("conditions", conditions("A_1"), conditions("A,")),
    ]
}

fn examples_of_nodes() -> Vec<Example> {
    let failures = |key: &str, digest: &str| {
        let mut failures = sample_node()["failures"].clone();
        failures[0]["profiles"][0][key] = json!(digest);
        json!({"failures": failures})
    };
    let mut examples: Vec<_> = ["digest", "liveDigest"]
        .map(|key| Example {
            within: failures(key, DIGEST),
            beyond: failures(key, &DIGEST.to_uppercase()),
        })
        .into();
    examples.push(Example {
        within: json!({"conditions": conditions("A_1")}),
        beyond: json!({"conditions": conditions("1")}),
    });
    examples.push(Example {
        within: json!({"profiles": "AA=="}),
        beyond: json!({"profiles": "AA-_"}),
    });
    examples
}

/// What the API server says, by field, of what it refuses; nothing where it takes it.
type Causes = Vec<(String, String)>;

/// How objects of one kind are offered to the API server.
enum Door {
    Create(Api<DynamicObject>, ApiResource),
    Status(Api<DynamicObject>),
}

impl Door {
    async fn offer(&self, object: &Value) -> Result<Causes> {
        let answer = match self {
            Self::Create(api, resource) => {
                let mut object = object.clone();
                object["apiVersion"] = json!(resource.api_version);
                object["kind"] = json!(resource.kind);
                if object["metadata"].is_null() {
                    object["metadata"] = json!({"name": "bounds"});
                }
                api.create(&dry_run(), &serde_json::from_value(object)?).await
            }
            Self::Status(api) => {
                let parameters = PatchParams {
                    dry_run: true,
                    ..PatchParams::default()
                };
                api.patch_status("bounds", &parameters, &Patch::Merge(object))
                    .await
            }
        };
        match answer {
            Ok(_) => Ok(Causes::new()),
            Err(kube::Error::Api(status)) => {
                let causes = status.details.context("no details")?.causes;
                ensure!(!causes.is_empty(), "{}", status.message);
                Ok(causes
                    .into_iter()
                    .map(|cause| (cause.field, cause.message))
                    .collect())
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Holds every constraint of a schema against these examples and those that are made from its bounds.
    async fn hold(
        &self,
        constraints: &[Constraint],
        sample: &Value,
        mut examples: Vec<Example>,
    ) -> Result<()> {
        for constraint in constraints {
            examples.extend(constraint.example(sample)?);
        }
        let mut refused = Causes::new();
        for Example { within, beyond } in &examples {
            let taken = self.offer(within).await?;
            ensure!(taken.is_empty(), "{}\nis refused: {taken:#?}", shown(within));
            let causes = self.offer(beyond).await?;
            ensure!(!causes.is_empty(), "{}\nis taken", shown(beyond));
            refused.extend(causes);
        }
        let mut untried = Vec::new();
        for constraint in constraints {
            let (field, words) = constraint.refusal()?;
            let is_it = |(of, message): &(String, String)| any_index(of) == field && message.contains(&words);
            if !refused.iter().any(is_it) {
                untried.push(format!("{field}: {words}"));
            }
        }
        ensure!(untried.is_empty(), "no example is refused by {untried:#?}");
        Ok(())
    }
}

/// `a[3].b[0]` as `a[].b[]`.
fn any_index(field: &str) -> String {
    let mut parts = field.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |path, part| {
        let rest = part.split_once(']').map_or("", |(_, rest)| rest);
        path + "[]" + rest
    })
}

fn shown(object: &Value) -> String {
    object.to_string().chars().take(400).collect()
}

/// The constraints of each definition.
fn constraints() -> Result<BTreeMap<String, Vec<Constraint>>> {
    crd_files()?
        .iter()
        .map(|file| {
            let crd: Value = serde_saphyr::from_str(&file.yaml)?;
            let kind = crd["spec"]["names"]["kind"].as_str().context("no kind")?;
            let mut found = Vec::new();
            Constraint::all(
                &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
                "",
                &mut found,
            );
            Ok((kind.to_owned(), found))
        })
        .collect()
}

#[tokio::test]
async fn every_rule_and_bound_takes_what_is_within_and_refuses_what_is_beyond_in_its_words() -> Result<()> {
    let client = cluster().await?.admin().await?;
    let mut constraints = constraints()?;
    let of_profiles = constraints.remove("SeccompProfile").context("no definition")?;
    let of_nodes = constraints.remove("SeccompNode").context("no definition")?;
    ensure!(constraints.is_empty(), "{:?}", constraints.keys());
    let (of_status, of_specs): (Vec<_>, Vec<_>) = of_profiles
        .into_iter()
        .partition(|constraint| constraint.pointer.starts_with("/status"));

    let api = profiles(client.clone());
    let create = Door::Create(api.clone(), ApiResource::erase::<SeccompProfile>(&()));
    create
        .hold(&of_specs, &sample_profile(), examples_of_specs())
        .await?;

    let spec = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    api.create(&PostParams::default(), &object("bounds", &spec)?)
        .await?;
    let status = Door::Status(api);
    status
        .hold(&of_status, &sample_status(), examples_of_status())
        .await?;

    let resource = ApiResource::erase::<SeccompNode>(&());
    let nodes = Door::Create(Api::all_with(client, &resource), resource);
    nodes.hold(&of_nodes, &sample_node(), examples_of_nodes()).await
}
