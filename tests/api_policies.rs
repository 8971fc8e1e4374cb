//! The admission policies and roles of `deploy/`, on a real API server and with real tokens.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use callgate::api::{SeccompNode, SeccompNodeReport, SeccompProfile, SeccompProfileSpec, crds};
use harness::{AGENT_SERVICE_ACCOUNT, Cluster, NAMESPACE, eventually};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource as _, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const PROFILES: &str = "/apis/callgate.dev/v1alpha1/namespaces/default/seccompprofiles";

/// A profile that was there before the policies; they would refuse it.
const OLD: &str = "older-than-the-policies";

/// One cluster for the tests of this file, with everything installed.
async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_try_init(async || {
            let cluster = Cluster::start().await?;
            let crds = harness::repository().join("crds");
            let crds = crds.to_str().context("the repository's path is not UTF-8")?;
            cluster
                .kubectl(&["apply", "--server-side", "-f", crds], "")
                .await?
                .ok()?;
            let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", crds];
            cluster.kubectl(&wait, "").await?.ok()?;
            let old = profile(OLD, &json!({"defaultAction": "SCMP_ACT_ALLOW", "unknown": true}));
            cluster.kubectl(&["create", "-f", "-"], &old).await?.ok()?;
            cluster.install().await?;
            Ok(cluster)
        })
        .await
}

fn profile(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
    .to_string()
}

/// The answer of the API server, whatever it is; empty where it took the request.
fn answer<T>(result: kube::Result<T>) -> Result<String> {
    match result {
        Ok(_) => Ok(String::new()),
        Err(kube::Error::Api(status)) => Ok(status.message.clone()),
        Err(other) => Err(other.into()),
    }
}

fn refused(what: &str, answer: &str, message: &str) -> Result<()> {
    ensure!(
        answer.contains(message),
        "{what}\nexpected: {message}\nanswered: {answer:?}"
    );
    Ok(())
}

// --- Unknown keys ---

/// Specs with a key that no field has, and what is said of it.
fn specs_with_a_key_too_many() -> Vec<(Value, &'static str)> {
    let entry = |entry: Value| {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}, entry],
        })
    };
    vec![
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "seccomp": {}}),
            "unknown field in spec: seccomp (the fields are defaultAction, defaultErrnoRet",
        ),
        (
            entry(json!({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "arg": []})),
            "unknown field in spec.syscalls[1]: arg (the fields are names, action, errnoRet, args)",
        ),
        (
            entry(json!({
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "args": [
                    {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                    {"index": 1, "value": 1, "op": "SCMP_CMP_MASKED_EQ", "valuetwo": 1},
                ],
            })),
            "unknown field in spec.syscalls[1].args: valuetwo (the fields are index, value, valueTwo, op)",
        ),
        (
            entry(
                json!({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}}),
            ),
            "includes is a key of Docker's profile format",
        ),
    ]
}

/// Every way by which clients create an object.
fn ways_to_create() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        (
            "kubectl create, strict",
            vec!["create", "--validate=strict", "-f", "-"],
        ),
        (
            "kubectl create, warn",
            vec!["create", "--validate=warn", "-f", "-"],
        ),
        (
            "kubectl create, ignore",
            vec!["create", "--validate=ignore", "-f", "-"],
        ),
        // A POST that says nothing of validation, as most libraries send it.
        ("POST", vec!["create", "--raw", PROFILES, "-f", "-"]),
        (
            "client-side apply, ignore",
            vec!["apply", "--validate=ignore", "-f", "-"],
        ),
        (
            "server-side apply, strict",
            vec!["apply", "--server-side", "--validate=strict", "-f", "-"],
        ),
        (
            "server-side apply, ignore",
            vec!["apply", "--server-side", "--validate=ignore", "-f", "-"],
        ),
    ]
}

#[tokio::test]
async fn a_key_too_many_is_refused_by_name_for_every_client_that_creates() -> Result<()> {
    let cluster = cluster().await?;
    for (spec, message) in specs_with_a_key_too_many() {
        for (way, arguments) in ways_to_create() {
            let output = cluster.kubectl(&arguments, &profile("keys", &spec)).await?;
            ensure!(!output.success, "{way} took {spec}");
            refused(&format!("{way}: {spec}"), &output.stderr, message)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_profile_of_more_names_than_any_file_holds_is_refused_at_once() -> Result<()> {
    let cluster = cluster().await?;
    let of = |entries: usize| {
        let entry = json!({"names": vec!["a"; 1024], "action": "SCMP_ACT_ERRNO"});
        let spec = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": vec![entry; entries]});
        profile("many", &spec)
    };
    let create = ["create", "--dry-run=server", "-f", "-"];
    cluster.kubectl(&create, &of(16)).await?.ok()?;
    let output = cluster.kubectl(&create, &of(17)).await?;
    ensure!(!output.success, "17,408 names are taken");
    refused("17,408 names", &output.stderr, "more than 16384 names in all")
}

#[tokio::test]
async fn a_key_too_many_is_refused_by_name_for_every_client_that_updates() -> Result<()> {
    let cluster = cluster().await?;
    let good = profile("updated", &json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    cluster.kubectl(&["create", "-f", "-"], &good).await?.ok()?;
    let url = format!("{PROFILES}/updated");
    let stored = cluster
        .kubectl(&["get", "scp", "updated", "-o", "json"], "")
        .await?
        .ok()?;
    let stored: Value = serde_json::from_str(&stored)?;
    for (spec, message) in specs_with_a_key_too_many() {
        let mut object = stored.clone();
        object["spec"] = spec.clone();
        let patch = json!({"spec": spec}).to_string();
        let updates = [
            (
                "kubectl replace, warn",
                vec!["replace", "--validate=warn", "-f", "-"],
            ),
            (
                "kubectl replace, ignore",
                vec!["replace", "--validate=ignore", "-f", "-"],
            ),
            ("PUT", vec!["replace", "--raw", &url, "-f", "-"]),
            (
                "client-side apply, ignore",
                vec!["apply", "--validate=ignore", "-f", "-"],
            ),
            (
                "server-side apply, ignore",
                vec![
                    "apply",
                    "--server-side",
                    "--force-conflicts",
                    "--validate=ignore",
                    "-f",
                    "-",
                ],
            ),
            (
                "merge patch",
                vec!["patch", "scp", "updated", "--type=merge", "-p", &patch],
            ),
        ];
        for (way, arguments) in updates {
            let output = cluster.kubectl(&arguments, &object.to_string()).await?;
            ensure!(!output.success, "{way} took {spec}");
            refused(&format!("{way}: {spec}"), &output.stderr, message)?;
        }
    }
    Ok(())
}

/// A chart of one profile.
struct Chart(tempfile::TempDir);

impl Chart {
    fn new() -> Result<Self> {
        let chart = Self(tempfile::tempdir()?);
        fs::write(
            chart.0.path().join("Chart.yaml"),
            "apiVersion: v2\nname: chart\nversion: 0.1.0\n",
        )?;
        fs::create_dir(chart.0.path().join("templates"))?;
        Ok(chart)
    }

    fn hold(&self, profile: &str) -> Result<&str> {
        fs::write(self.0.path().join("templates/profile.yaml"), profile)?;
        self.0.path().to_str().context("the chart's path is not UTF-8")
    }
}

#[tokio::test]
async fn a_key_too_many_is_refused_by_name_for_helm() -> Result<()> {
    let cluster = cluster().await?;
    let chart = Chart::new()?;
    for (side, server_side) in [
        ("client", "--server-side=false"),
        ("server", "--server-side=true"),
    ] {
        let (refused_name, name) = (format!("helm-{side}-refused"), format!("helm-{side}"));
        let helm = async |verb: &str, release: &str, spec: &Value| {
            let chart = chart.hold(&profile(release, spec))?;
            cluster
                .helm(&[verb, release, chart, "--namespace", "default", server_side])
                .await
        };
        let stored = async |name: &str| -> Result<Value> {
            let list = cluster
                .kubectl(&["get", "scp", "--output=json", "--ignore-not-found", name], "")
                .await?
                .ok()?;
            Ok(serde_json::from_str(&list).unwrap_or_default())
        };
        let good = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}],
        });
        helm("install", &name, &good).await?.ok()?;
        assert_eq!(stored(&name).await?["spec"], good);
        for (index, (spec, message)) in specs_with_a_key_too_many().into_iter().enumerate() {
            let output = helm("install", &format!("{refused_name}-{index}"), &spec).await?;
            ensure!(!output.success, "helm install {server_side} took {spec}");
            refused(
                &format!("helm install {server_side}: {spec}"),
                &output.stderr,
                message,
            )?;
            assert!(stored(&format!("{refused_name}-{index}")).await?.is_null());

            let output = helm("upgrade", &name, &spec).await?;
            ensure!(!output.success, "helm upgrade {server_side} took {spec}");
            refused(
                &format!("helm upgrade {server_side}: {spec}"),
                &output.stderr,
                message,
            )?;
            assert_eq!(stored(&name).await?["spec"], good);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_null_is_refused_and_not_taken_for_an_absent_field() -> Result<()> {
    let cluster = cluster().await?;
    let entry = json!({"names": ["clone"], "action": "SCMP_ACT_ERRNO"});
    let mut without_args = entry.clone();
    without_args["args"] = json!(null);
    let mut without_datum = entry;
    without_datum["args"] = json!([{"index": 0, "value": 1, "valueTwo": null, "op": "SCMP_CMP_MASKED_EQ"}]);
    for (field, value, path) in [
        (
            "syscalls",
            json!([without_args]),
            "spec.syscalls[0].args: null is no value",
        ),
        (
            "syscalls",
            json!([without_datum]),
            "spec.syscalls[0].args[].valueTwo: null is no value",
        ),
        (
            "nodeSelector",
            json!(null),
            "spec.nodeSelector: null is no value; write one, or leave the key out",
        ),
        ("syscalls", json!(null), "spec.syscalls: null is no value"),
    ] {
        let mut spec = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        spec[field] = value;
        for (way, arguments) in ways_to_create() {
            // This client takes nulls out before it sends anything.
            if way.starts_with("client-side apply") {
                continue;
            }
            let output = cluster.kubectl(&arguments, &profile("null", &spec)).await?;
            ensure!(!output.success, "{way} took {spec}");
            refused(&format!("{way}: {spec}"), &output.stderr, path)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_older_object_that_the_policies_would_refuse_can_still_be_labelled_and_deleted() -> Result<()> {
    let cluster = cluster().await?;
    let patch = r#"{"spec": {"defaultAction": "SCMP_ACT_LOG"}}"#;
    let output = cluster
        .kubectl(&["patch", "scp", OLD, "--type=merge", "-p", patch], "")
        .await?;
    refused(
        "a change of its spec",
        &output.stderr,
        "unknown field in spec: unknown",
    )?;
    cluster.kubectl(&["label", "scp", OLD, "a=b"], "").await?.ok()?;
    let client = cluster.admin().await?;
    let status = json!({"status": {"observedGeneration": 1}});
    Api::<SeccompProfile>::namespaced(client, "default")
        .patch_status(OLD, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    cluster.kubectl(&["delete", "scp", OLD], "").await?.ok()?;
    Ok(())
}

/// What is installed.
fn manifests() -> Result<Vec<Value>> {
    let text = fs::read_to_string(harness::repository().join("deploy/callgate.yaml"))?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

#[test]
fn the_policy_on_keys_knows_the_fields_of_the_definition() -> Result<()> {
    let policy = manifests()?
        .into_iter()
        .find(|object| object["metadata"]["name"] == "callgate-profile-keys")
        .context("no policy")?;
    let policy = ValidatingAdmissionPolicy::deserialize(policy)?;
    let variables = policy.spec.and_then(|spec| spec.variables).unwrap_or_default();
    let listed = |variable: &str| -> Result<BTreeSet<String>> {
        let expression = variables
            .iter()
            .find(|candidate| candidate.name == variable)
            .with_context(|| format!("no variable {variable}"))?;
        Ok(serde_json::from_str(&expression.expression.replace('\'', "\""))?)
    };
    let schema = serde_json::to_value(&crds()[0].spec.versions[0])?;
    let declared = |pointer: &str| -> Result<BTreeSet<String>> {
        let properties = schema
            .pointer(pointer)
            .and_then(Value::as_object)
            .context("no properties")?;
        Ok(properties
            .iter()
            // Keys of Docker's format, declared to be refused.
            .filter(|(_, schema)| {
                let description = schema["description"].as_str().unwrap_or_default();
                !description.starts_with("Not a field.")
            })
            .map(|(name, _)| name.clone())
            .collect())
    };
    let spec = "/schema/openAPIV3Schema/properties/spec/properties";
    assert_eq!(listed("specFields")?, declared(spec)?);
    assert_eq!(
        listed("syscallFields")?,
        declared(&format!("{spec}/syscalls/items/properties"))?
    );
    assert_eq!(
        listed("argFields")?,
        declared(&format!("{spec}/syscalls/items/properties/args/items/properties"))?
    );
    Ok(())
}

// --- Node reports ---

fn owner(node: &Node) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

fn report(name: &str, owners: Vec<OwnerReference>) -> SeccompNode {
    let mut report = SeccompNode::new(name, SeccompNodeReport::default());
    report.meta_mut().owner_references = Some(owners);
    report
}

fn label(value: &str) -> Patch<Value> {
    Patch::Merge(json!({"metadata": {"labels": {"a": value}}}))
}

#[tokio::test]
async fn an_agent_writes_the_report_of_its_own_node_and_no_other() -> Result<()> {
    let cluster = cluster().await?;
    let own = cluster.node("own-a", &[]).await?;
    let other = cluster.node("own-b", &[]).await?;
    let reports = Api::<SeccompNode>::all(cluster.agent_client("own-a").await?);
    let create = PostParams::default();
    let wrong_owner = "a SeccompNode has one owner, its Node: metadata.ownerReferences must be [{apiVersion: v1, kind: Node, name: own-a";

    for (what, object, message) in [
        (
            "a foreign name",
            report("own-b", vec![owner(&other)]),
            "an agent on node own-a writes SeccompNode own-a, not own-b",
        ),
        (
            "a foreign name with its own owner",
            report("own-b", vec![owner(&own)]),
            "writes SeccompNode own-a, not own-b",
        ),
        ("no owner", report("own-a", vec![]), wrong_owner),
        ("another owner", report("own-a", vec![owner(&other)]), wrong_owner),
        (
            "one owner too many",
            report("own-a", vec![owner(&own), owner(&other)]),
            wrong_owner,
        ),
        (
            "an owner of another kind",
            report(
                "own-a",
                vec![OwnerReference {
                    kind: "Namespace".to_owned(),
                    ..owner(&own)
                }],
            ),
            wrong_owner,
        ),
        (
            "a finalizer",
            SeccompNode {
                metadata: ObjectMeta {
                    finalizers: Some(vec!["example.com/hold".to_owned()]),
                    ..report("own-a", vec![owner(&own)]).metadata
                },
                ..report("own-a", vec![])
            },
            "a SeccompNode has no finalizers",
        ),
        (
            "an owner that it holds up",
            report(
                "own-a",
                vec![OwnerReference {
                    block_owner_deletion: Some(true),
                    ..owner(&own)
                }],
            ),
            "does not block the deletion of its owner",
        ),
    ] {
        refused(what, &answer(reports.create(&create, &object).await)?, message)?;
    }
    let mut generated = report("", vec![owner(&own)]);
    generated.metadata.name = None;
    generated.metadata.generate_name = Some("own-a".to_owned());
    refused(
        "a generated name",
        &answer(reports.create(&create, &generated).await)?,
        "an agent on node own-a writes",
    )?;
    let foreign = json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompNode",
        "metadata": {"name": "own-b", "ownerReferences": [owner(&own)]},
    });
    let applied = reports
        .patch("own-b", &PatchParams::apply("agent"), &Patch::Apply(&foreign))
        .await;
    refused(
        "server-side apply of a foreign name",
        &answer(applied)?,
        "not own-b",
    )?;

    reports
        .create(&create, &report("own-a", vec![owner(&own)]))
        .await
        .context("create")?;
    reports
        .patch("own-a", &PatchParams::default(), &label("own"))
        .await
        .context("patch")?;
    let disowned = Patch::Merge(json!({"metadata": {"ownerReferences": []}}));
    refused(
        "an update that drops the owner",
        &answer(reports.patch("own-a", &PatchParams::default(), &disowned).await)?,
        wrong_owner,
    )?;
    Ok(())
}

#[tokio::test]
async fn an_agent_changes_no_foreign_report_that_is_there() -> Result<()> {
    let cluster = cluster().await?;
    let victim = cluster.node("foreign-b", &[]).await?;
    let admin = Api::<SeccompNode>::all(cluster.admin().await?);
    let object = report("foreign-b", vec![owner(&victim)]);
    admin.create(&PostParams::default(), &object).await?;
    let reports = Api::<SeccompNode>::all(cluster.agent_client("foreign-a").await?);
    let not = "an agent on node foreign-a writes SeccompNode foreign-a, not foreign-b";
    refused(
        "patch",
        &answer(
            reports
                .patch("foreign-b", &PatchParams::default(), &label("x"))
                .await,
        )?,
        not,
    )?;
    let apply = PatchParams::apply("agent").force();
    refused(
        "server-side apply",
        &answer(reports.patch("foreign-b", &apply, &Patch::Apply(&object)).await)?,
        not,
    )?;
    Ok(())
}

#[tokio::test]
async fn an_agent_deletes_no_report_even_where_somebody_granted_it() -> Result<()> {
    let cluster = cluster().await?;
    let admin = cluster.admin().await?;
    let victim = cluster.node("delete-b", &[]).await?;
    Api::<SeccompNode>::all(admin.clone())
        .create(&PostParams::default(), &report("delete-b", vec![owner(&victim)]))
        .await?;
    let reports = Api::<SeccompNode>::all(cluster.agent_client("delete-a").await?);
    let delete = DeleteParams::default();
    let all = ListParams::default();

    let no_right = r#"cannot delete resource "seccompnodes""#;
    refused(
        "its own",
        &answer(reports.delete("delete-a", &delete).await)?,
        no_right,
    )?;
    refused(
        "a foreign one",
        &answer(reports.delete("delete-b", &delete).await)?,
        no_right,
    )?;
    refused(
        "all",
        &answer(reports.delete_collection(&delete, &all).await)?,
        r#"cannot deletecollection resource "seccompnodes""#,
    )?;

    let named = json!({"name": "test-delete-reports"});
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": named,
        "rules": [{"apiGroups": ["callgate.dev"], "resources": ["seccompnodes"], "verbs": ["delete", "deletecollection"]}],
    }))?;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": named,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "test-delete-reports"},
        // One pod's identity would do; a service account has one name for all of them.
        "subjects": [{"kind": "ServiceAccount", "name": AGENT_SERVICE_ACCOUNT, "namespace": NAMESPACE}],
    }))?;
    let roles = Api::<ClusterRole>::all(admin.clone());
    let bindings = Api::<ClusterRoleBinding>::all(admin);
    roles.create(&PostParams::default(), &role).await?;
    bindings.create(&PostParams::default(), &binding).await?;
    let not = "an agent on node delete-a writes SeccompNode delete-a, not";
    eventually("the right to be in force, and the policy to stand", async || {
        refused(
            "a foreign one",
            &answer(reports.delete("delete-b", &delete).await)?,
            &format!("{not} delete-b"),
        )
    })
    .await?;
    refused(
        "all",
        &answer(reports.delete_collection(&delete, &all).await)?,
        not,
    )?;
    bindings.delete("test-delete-reports", &delete).await?;
    roles.delete("test-delete-reports", &delete).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_pod_writes_no_report() -> Result<()> {
    let cluster = cluster().await?;
    let node = cluster.node("unbound", &[]).await?;
    let account = format!("{NAMESPACE}/{AGENT_SERVICE_ACCOUNT}");
    let message = "this token is bound to no pod on a node; an agent writes with the token of its own pod";
    let create = async |token: &str| -> Result<String> {
        let reports = Api::<SeccompNode>::all(cluster.client_for(token).await?);
        answer(
            reports
                .create(&PostParams::default(), &report("unbound", vec![owner(&node)]))
                .await,
        )
    };
    refused(
        "no bound object",
        &create(&cluster.token(&account, None).await?).await?,
        message,
    )?;

    let request = TokenRequest {
        spec: TokenRequestSpec {
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.name_any()),
                uid: node.uid(),
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts = Api::<ServiceAccount>::namespaced(cluster.admin().await?, NAMESPACE);
    let bound = accounts
        .create_token_request(AGENT_SERVICE_ACCOUNT, &PostParams::default(), &request)
        .await?
        .status
        .context("no token")?;
    refused("bound to a Node", &create(&bound.token).await?, message)?;

    // A pod that no node has been chosen for.
    let pending: Pod = serde_json::from_value(json!({
        "metadata": {"name": "pending"},
        "spec": {"serviceAccountName": AGENT_SERVICE_ACCOUNT, "containers": [{"name": "a", "image": "a"}]},
    }))?;
    let pods = Api::<Pod>::namespaced(cluster.admin().await?, NAMESPACE);
    let pending = pods.create(&PostParams::default(), &pending).await?;
    let token = cluster.token(&account, Some(&pending)).await?;
    refused("a pod without a node", &create(&token).await?, message)?;
    Ok(())
}

// --- Deletion ---

async fn create_profile(client: Client, namespace: &str, name: &str) -> Result<()> {
    let spec = SeccompProfileSpec {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        ..SeccompProfileSpec::default()
    };
    Api::namespaced(client, namespace)
        .create(&PostParams::default(), &SeccompProfile::new(name, spec))
        .await?;
    Ok(())
}

/// Reports these profiles as in use on a node, and waits until the policy has seen it (it watches the reports).
async fn in_use(cluster: &Cluster, node: &str, profiles: &[(&str, &str)]) -> Result<()> {
    let client = cluster.admin().await?;
    let spec = SeccompNodeReport {
        in_use: profiles
            .iter()
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect(),
        ..SeccompNodeReport::default()
    };
    Api::<SeccompNode>::all(client.clone())
        .create(&PostParams::default(), &SeccompNode::new(node, spec))
        .await?;
    let dry_run = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    for (namespace, name) in profiles {
        let api = Api::<SeccompProfile>::namespaced(client.clone(), namespace);
        eventually("the policy to see that the profile is in use", async || {
            refused("deletion", &answer(api.delete(name, &dry_run).await)?, "use it")
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_profile_in_use_is_deleted_only_with_the_annotation() -> Result<()> {
    let cluster = cluster().await?;
    let client = cluster.admin().await?;
    create_profile(client.clone(), "default", "used").await?;
    create_profile(client.clone(), "default", "unused").await?;
    in_use(cluster, "guard", &[("default", "used")]).await?;
    let api = Api::<SeccompProfile>::namespaced(client, "default");

    let refusal = "running pods on node guard use it; to delete it all the same: kubectl annotate scp -n default used callgate.dev/allow-delete-in-use=true";
    let delete = DeleteParams::default();
    refused("delete", &answer(api.delete("used", &delete).await)?, refusal)?;
    let named = ListParams::default().fields("metadata.name=used");
    refused(
        "deletecollection",
        &answer(api.delete_collection(&delete, &named).await)?,
        refusal,
    )?;
    ensure!(
        answer(api.delete("unused", &delete).await)?.is_empty(),
        "a profile that nothing uses"
    );

    let annotate = async |value: &str| {
        let annotation = format!("callgate.dev/allow-delete-in-use={value}");
        cluster
            .kubectl(
                &[
                    "annotate",
                    "--overwrite",
                    "scp",
                    "-n",
                    "default",
                    "used",
                    &annotation,
                ],
                "",
            )
            .await?
            .ok()
    };
    annotate("false").await?;
    refused(
        "annotated with false",
        &answer(api.delete("used", &delete).await)?,
        refusal,
    )?;
    annotate("true").await?;
    ensure!(
        answer(api.delete("used", &delete).await)?.is_empty(),
        "annotated with true"
    );
    ensure!(api.get_opt("used").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_namespace_takes_its_profiles_along() -> Result<()> {
    let cluster = cluster().await?;
    let client = cluster.admin().await?;
    cluster.namespace("ending").await?;
    create_profile(client.clone(), "ending", "used").await?;
    in_use(cluster, "namespaces", &[("ending", "used")]).await?;
    let delete = async |user: &str, dry_run: &str| {
        let user = format!("--as={user}");
        let arguments = [
            "delete",
            "scp",
            "-n",
            "ending",
            "--all",
            "--as-group=system:masters",
        ];
        let output = cluster
            .kubectl(&[&arguments[..], &[&user, dry_run]].concat(), "")
            .await?;
        anyhow::Ok(output)
    };
    // No namespace controller runs here: this is what one does, under either of its names.
    for controller in [
        "system:serviceaccount:kube-system:namespace-controller",
        "system:kube-controller-manager",
    ] {
        delete(controller, "--dry-run=server").await?.ok()?;
    }
    let alive = delete("alice", "--dry-run=server").await?;
    refused(
        "in a live namespace",
        &alive.stderr,
        "running pods on node namespaces use it",
    )?;
    Api::<Namespace>::all(client.clone())
        .delete("ending", &DeleteParams::default())
        .await?;
    eventually("the policy to see that the namespace ends", async || {
        delete("alice", "--dry-run=none").await?.ok()
    })
    .await?;
    let profiles = Api::<SeccompProfile>::namespaced(client, "ending");
    ensure!(profiles.get_opt("used").await?.is_none());
    Ok(())
}

// --- Roles ---

#[test]
fn no_role_reaches_people_through_view_edit_or_admin() -> Result<()> {
    let roles: Vec<_> = manifests()?
        .into_iter()
        .filter(|object| object["kind"] == "ClusterRole")
        .collect();
    assert_eq!(roles.len(), 4);
    for object in roles {
        let labels = object["metadata"]["labels"].as_object().context("no labels")?;
        ensure!(
            !labels
                .keys()
                .any(|label| label.starts_with("rbac.authorization.k8s.io/aggregate-to-")),
            "{} is aggregated",
            object["metadata"]["name"]
        );
    }
    Ok(())
}
