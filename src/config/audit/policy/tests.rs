use super::*;

fn read(text: &str) -> (Option<AuditPolicy>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut checker = Checker::default();
    let policy = checker.audit_policy(file.path().to_str());
    let faults = checker.into_faults().to_string();
    (policy, faults.replace(file.path().to_str().unwrap(), "FILE"))
}

/// The form in which operators keep policies is read, in YAML and in JSON.
#[test]
fn a_policy_is_read() {
    let yaml = "
apiVersion: audit.k8s.io/v1
kind: Policy
metadata: {name: entrada}
omitStages: [RequestReceived]
rules:
- level: None
  users: [\"system:probe\"]   # a comment
  nonResourceURLs: [/healthz*, /version]
- level: Metadata
  omitStages:
  - ResponseStarted
  resources:
  - group: \"\"
    resources: [pods/log, \"*/status\"]
    resourceNames: [web]
  namespaces: [\"\", team-a]
  verbs:
";
    let (policy, _) = read(yaml);
    let rules = policy.unwrap().rules;
    assert_eq!((rules[0].recorded, rules[1].recorded), (false, true));
    assert_eq!(rules[0].paths, ["/healthz*", "/version"]);
    assert_eq!(rules[0].omit, Stages::RECEIVED);
    assert_eq!(rules[1].omit, Stages::RECEIVED.union(Stages::STARTED));
    assert_eq!(rules[1].resources[0].resources, ["pods/log", "*/status"]);
    assert_eq!(
        (&rules[1].namespaces[..], rules[1].verbs.len()),
        (&["".to_owned(), "team-a".to_owned()][..], 0)
    );
    let json = r#"{"kind":"Policy","apiVersion":"audit.k8s.io/v1","rules":[{"level":"Metadata"}]}"#;
    assert!(read(json).0.unwrap().rules[0].recorded);
}

/// All that is wrong with a policy is told at once, each with its place and what would be right.
#[test]
fn every_fault_of_a_policy_is_told_with_its_line() {
    let (policy, faults) = read(
        "
apiVersion: audit.k8s.io/v1beta1
kind: Policy
rules:
- level: RequestResponse
- users: [alice]
  userGroups: [admins]
- level: Metadata
  resources: [{group: apps/v1, resources: [deployments]}, {resourceNames: [a]}]
  nonResourceURLs: [version, '/a*b']
- level: Everything
  namespace: [a]
  verbs: get
  namespaces: [1, yes, true]
  omitStages: [Done]
",
    );
    assert!(policy.is_none());
    insta::assert_snapshot!(faults);
}

/// What is no policy at all is told as that.
#[test]
fn what_is_no_policy_is_told() {
    for text in ["", "rules", "a: [", "a: 1\na: 2", "---\na: b\n---\nc: d", "kind: Policy"] {
        let (policy, faults) = read(text);
        assert!(policy.is_none() && faults.contains("ENTRADA_AUDIT_POLICY_FILE"), "{text}: {faults}");
    }
}
