//! What can be written with the tokens of agents, the controller and people: everything that the API server serves is
//! tried.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use callgate::api::{SeccompNode, SeccompNodeReport};
use futures::StreamExt as _;
use harness::{AGENT_SERVICE_ACCOUNT, CONTROLLER_SERVICE_ACCOUNT, Cluster, NAMESPACE, eventually};
use hyper::{Method, Request};
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::install;
use crate::right::{FORBIDDEN, Right, granted};

/// A namespace that is not Callgate's.
const TEAM: &str = "team";
/// The name of what is tried on. Of a report, somebody else's.
const NAME: &str = "foreign";
/// Requests under way.
const AT_ONCE: usize = 16;

/// One cluster for the tests of this file, with the chart's defaults, two people and a report.
async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_try_init(async || {
            let cluster = Cluster::start().await?;
            install(&cluster, &[]).await?;
            cluster.namespace(TEAM).await?;
            for arguments in [
                "create serviceaccount viewer --namespace=team",
                "create serviceaccount editor --namespace=team",
                "create clusterrolebinding viewer --clusterrole=callgate-viewer --serviceaccount=team:viewer",
                "create clusterrolebinding editor --clusterrole=callgate-editor --serviceaccount=team:editor",
            ] {
                let arguments: Vec<_> = arguments.split(' ').collect();
                cluster.kubectl(&arguments, "").await?.ok()?;
            }
            for (person, right) in [
                ("viewer", ["list", "seccompnodes.callgate.dev"]),
                ("editor", ["create", "seccompprofiles.callgate.dev"]),
            ] {
                let who = format!("--as=system:serviceaccount:team:{person}");
                let can = [&["auth", "can-i", "--namespace=team", &who], &right[..]].concat();
                eventually("the bindings to be in force", async || {
                    cluster.kubectl(&can, "").await?.ok()
                })
                .await?;
            }
            let reports = Api::<SeccompNode>::all(cluster.admin().await?);
            let report = SeccompNode::new(NAME, SeccompNodeReport::default());
            reports.create(&PostParams::default(), &report).await?;
            Ok(cluster)
        })
        .await
}

/// Who may do something, with the token of a pod where it has one.
async fn everybody(cluster: &Cluster) -> Result<Vec<(&'static str, &'static str, Client)>> {
    Ok(vec![
        (
            NAMESPACE,
            AGENT_SERVICE_ACCOUNT,
            cluster.agent_client("north").await?,
        ),
        (
            NAMESPACE,
            CONTROLLER_SERVICE_ACCOUNT,
            cluster.client_for(&cluster.controller_token("1").await?).await?,
        ),
        (
            TEAM,
            "viewer",
            cluster
                .client_for(&cluster.token("team/viewer", None).await?)
                .await?,
        ),
        (
            TEAM,
            "editor",
            cluster
                .client_for(&cluster.token("team/editor", None).await?)
                .await?,
        ),
    ])
}

/// What somebody may do in a namespace and outside of all, as the API server itself says it.
async fn may(client: &Client, namespace: &str) -> Result<BTreeSet<Right>> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let reviews = Api::<SelfSubjectRulesReview>::all(client.clone());
    let review = reviews.create(&PostParams::default(), &review).await?;
    let rules = review.status.context("no answer")?;
    let paths = rules.non_resource_rules.into_iter().flat_map(|rule| {
        let paths = rule.non_resource_urls.unwrap_or_default();
        Right::all_of(&[String::new()], &paths, &[], &rule.verbs, None)
    });
    let resources = rules.resource_rules.into_iter().flat_map(|rule| {
        let [groups, resources, names] =
            [rule.api_groups, rule.resources, rule.resource_names].map(Option::unwrap_or_default);
        Right::all_of(&groups, &resources, &names, &rule.verbs, None)
    });
    Ok(paths.chain(resources).collect())
}

#[tokio::test]
async fn nobody_has_a_right_beside_those_of_the_chart_and_those_that_all_have() -> Result<()> {
    let cluster = cluster().await?;
    let admin = cluster.admin().await?;
    let nobody = cluster
        .client_for(&cluster.token("team/default", None).await?)
        .await?;
    for (home, account, client) in everybody(cluster).await? {
        let granted = granted(&admin, home, account).await?;
        for namespace in [NAMESPACE, TEAM, "kube-system"] {
            let everybodys = may(&nobody, namespace).await?;
            let own: BTreeSet<_> = may(&client, namespace)
                .await?
                .difference(&everybodys)
                .cloned()
                .collect();
            let expected: BTreeSet<_> = granted
                .iter()
                .filter(|right| right.namespace.as_deref().is_none_or(|only| only == namespace))
                .map(|right| Right {
                    namespace: None,
                    ..right.clone()
                })
                .collect();
            assert_eq!(own, expected, "{account} in {namespace}");
        }
    }
    Ok(())
}

/// In words, one for each resource and what it is narrowed to: the verbs.
fn expected(account: &str) -> Result<&'static [(&'static str, &'static str)]> {
    Ok(match account {
        AGENT_SERVICE_ACCOUNT => &[
            ("list watch", "seccompprofiles.callgate.dev"),
            ("list watch create patch", "seccompnodes.callgate.dev"),
            ("list watch", "nodes"),
            ("list watch", "pods"),
            ("get", "namespaces named kube-system"),
        ],
        CONTROLLER_SERVICE_ACCOUNT => &[
            ("list watch", "seccompprofiles.callgate.dev"),
            ("list watch", "seccompnodes.callgate.dev"),
            ("patch", "seccompprofiles/status.callgate.dev"),
            ("list watch", "nodes"),
            ("create patch", "events.events.k8s.io"),
            ("list watch", "pods in namespace callgate"),
            (
                "get update",
                "leases.coordination.k8s.io named callgate-controller in namespace callgate",
            ),
            ("create", "leases.coordination.k8s.io in namespace callgate"),
        ],
        "viewer" => &[
            ("get list watch", "seccompprofiles.callgate.dev"),
            ("get list watch", "seccompnodes.callgate.dev"),
        ],
        "editor" => &[
            (
                "get list watch create patch update delete deletecollection",
                "seccompprofiles.callgate.dev",
            ),
            ("get list watch", "seccompnodes.callgate.dev"),
        ],
        other => bail!("nothing is known of {other}"),
    })
}

#[tokio::test]
async fn everybody_is_granted_these_rights_for_these_objects_and_no_others() -> Result<()> {
    let cluster = cluster().await?;
    let admin = cluster.admin().await?;
    for (home, account, _) in everybody(cluster).await? {
        let granted = granted(&admin, home, account).await?;
        let granted: BTreeSet<_> = granted.iter().map(ToString::to_string).collect();
        let expected = expected(account)?.iter().flat_map(|(verbs, of)| {
            let verbs = verbs.split(' ');
            verbs.map(move |verb| format!("{verb} {of}"))
        });
        assert_eq!(granted, expected.collect(), "{account}");
    }
    Ok(())
}

/// Something to try.
struct Attempt {
    /// The verb, the resource and the namespace, as they are compared.
    what: String,
    method: Method,
    path: String,
    body: String,
}

/// Each verb that writes, on each resource and subresource, in Callgate's namespace and in another.
async fn attempts(admin: &Client) -> Result<Vec<Attempt>> {
    let mut lists = vec![("/api/v1".to_owned(), admin.list_core_api_resources("v1").await?)];
    for group in admin.list_api_groups().await?.groups {
        // Rights know no versions.
        let version = group
            .preferred_version
            .context("no preferred version")?
            .group_version;
        let list = admin.list_api_group_resources(&version).await?;
        lists.push((format!("/apis/{version}"), list));
    }
    Ok(lists
        .iter()
        .flat_map(|(root, list)| attempts_of(root, list))
        .collect())
}

fn attempts_of(root: &str, list: &APIResourceList) -> Vec<Attempt> {
    let group = match list.group_version.split_once('/') {
        Some((group, _)) => format!(".{group}"),
        None => String::new(),
    };
    let mut attempts = Vec::new();
    for resource in &list.resources {
        let (plural, subresource) = match resource.name.split_once('/') {
            Some((plural, subresource)) => (plural, Some(subresource)),
            None => (resource.name.as_str(), None),
        };
        let body = json!({
            "apiVersion": list.group_version,
            "kind": resource.kind,
            "metadata": {"name": NAME},
        });
        let namespaces: &[Option<&str>] = if resource.namespaced {
            &[Some(NAMESPACE), Some(TEAM)]
        } else {
            &[None]
        };
        for namespace in namespaces {
            let (place, within) = match namespace {
                Some(namespace) => (format!("/namespaces/{namespace}"), format!(" in {namespace}")),
                None => Default::default(),
            };
            let all = format!("{root}{place}/{plural}");
            let one = match subresource {
                Some(subresource) => format!("{all}/{NAME}/{subresource}"),
                None => format!("{all}/{NAME}"),
            };
            for verb in &resource.verbs {
                let (method, path) = match verb.as_str() {
                    "create" if subresource.is_none() => (Method::POST, &all),
                    "create" => (Method::POST, &one),
                    "update" => (Method::PUT, &one),
                    "patch" => (Method::PATCH, &one),
                    "delete" => (Method::DELETE, &one),
                    "deletecollection" => (Method::DELETE, &all),
                    _ => continue,
                };
                attempts.push(Attempt {
                    what: format!("{verb} {}{group}{within}", resource.name),
                    method,
                    path: path.clone(),
                    body: if verb.starts_with("delete") {
                        String::new()
                    } else {
                        body.to_string()
                    },
                });
            }
        }
    }
    attempts
}

/// Whether the API server lets somebody try, whatever comes of it.
async fn is_let(client: &Client, attempt: &Attempt) -> Result<bool> {
    let content_type = if attempt.method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = Request::builder()
        .method(&attempt.method)
        .uri(format!("{}?dryRun=All", attempt.path))
        .header("content-type", content_type)
        .body(attempt.body.clone().into_bytes())?;
    match client.request_text(request).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) => Ok(u64::from(status.code) != FORBIDDEN),
        Err(error) => bail!("{}: {error}", attempt.what),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_that_the_api_server_serves_each_writes_its_own_and_nothing_else() -> Result<()> {
    let cluster = cluster().await?;
    let attempts = attempts(&cluster.admin().await?).await?;
    for known in [
        "create pods/exec in callgate",
        "delete nodes",
        "patch secrets in team",
        "deletecollection seccompnodes.callgate.dev",
    ] {
        ensure!(
            attempts.iter().any(|attempt| attempt.what == known),
            "{known} is not tried"
        );
    }
    for (_, account, client) in everybody(cluster).await? {
        let written: BTreeSet<&str> = futures::stream::iter(&attempts)
            .map(async |attempt| Ok(is_let(&client, attempt).await?.then_some(attempt.what.as_str())))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<Result<Option<&str>>>>()
            .await
            .into_iter()
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        let mut expected = BTreeSet::from([
            // Questions that anybody may ask about themselves. Nothing is stored.
            "create selfsubjectaccessreviews.authorization.k8s.io",
            "create selfsubjectreviews.authentication.k8s.io",
            "create selfsubjectrulesreviews.authorization.k8s.io",
        ]);
        expected.extend(own_writes(account)?);
        assert_eq!(written, expected, "{account}");
    }
    Ok(())
}

fn own_writes(account: &str) -> Result<&'static [&'static str]> {
    Ok(match account {
        // Not even reports: this one is another node's, and a policy refuses it.
        AGENT_SERVICE_ACCOUNT | "viewer" => &[],
        CONTROLLER_SERVICE_ACCOUNT => &[
            "create events.events.k8s.io in callgate",
            "create events.events.k8s.io in team",
            "create leases.coordination.k8s.io in callgate",
            "patch events.events.k8s.io in callgate",
            "patch events.events.k8s.io in team",
            "patch seccompprofiles/status.callgate.dev in callgate",
            "patch seccompprofiles/status.callgate.dev in team",
        ],
        "editor" => &[
            "create seccompprofiles.callgate.dev in callgate",
            "create seccompprofiles.callgate.dev in team",
            "delete seccompprofiles.callgate.dev in callgate",
            "delete seccompprofiles.callgate.dev in team",
            "deletecollection seccompprofiles.callgate.dev in callgate",
            "deletecollection seccompprofiles.callgate.dev in team",
            "patch seccompprofiles.callgate.dev in callgate",
            "patch seccompprofiles.callgate.dev in team",
            "update seccompprofiles.callgate.dev in callgate",
            "update seccompprofiles.callgate.dev in team",
        ],
        other => bail!("nothing is known of {other}"),
    })
}
