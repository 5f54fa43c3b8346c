#!/usr/bin/env bash
# Makes what Entrada needs in Entra ID and on the AKS cluster. Run it as often as you like: what is there is left alone.
# docs/azure.md says what it makes and why, and which roles it needs.
#
# Most of it goes through Microsoft Graph (`az rest`), since `az ad app create` changes an application that happens to
# have the same display name, and has no argument for the tag by which --remove knows what this script made.
set -euo pipefail

usage() {
    cat <<'END'
manifests/azure/setup.sh --public-url URL --resource-group NAME --cluster NAME [OPTIONS]

  --public-url URL         what users type, without a path: https://k8s.example.com
  --resource-group NAME    the resource group of the AKS cluster
  --cluster NAME           the AKS cluster
  --subscription ID        the cluster's subscription (default: the one that az uses)
  --namespace NAME         Entrada's namespace in the cluster (default: entrada)
  --service-account NAME   Entrada's service account (default: entrada; with Helm, the name of the release)
  --name NAME              display name of the application (default: entrada)
  --client-id ID           use this application, which this script need not have made
  --assign ID              let this user or group sign in: an object id; may be given several times
  --redis NAME             let Entrada into this Azure Managed Redis with its workload identity
  --redis-resource-group NAME   its resource group (default: the cluster's)
  --dry-run                print the commands that would change something, and run none of them
  --remove                 take back what this script made
  --output env|helm|json   how to print the values that the overlay or the chart needs (default: env)
  --retry-wait SECONDS     pause between attempts while Entra replicates what was just made (default: 10; 12 attempts)

Ends with 0: done. 1: failed, run it again when the cause is gone. 2: wrong arguments.
3: done, but somebody with more rights has to consent; the address for that is printed.
END
}

aks_server=6dae42f8-4368-4678-94ff-3960e28e3630 # "Azure Kubernetes Service AAD Server", the same in every tenant
graph_server=00000003-0000-0000-c000-000000000000
# What Entrada asks for on behalf of a user. AKS: user.read. Graph: openid, profile, offline_access.
permissions='[
  {"resourceAppId": "6dae42f8-4368-4678-94ff-3960e28e3630", "resourceAccess": [
    {"id": "34a47c2f-cd0d-47b4-a93c-2c41130c671c", "type": "Scope"}]},
  {"resourceAppId": "00000003-0000-0000-c000-000000000000", "resourceAccess": [
    {"id": "37f7f235-527c-4136-accd-4a02d197296e", "type": "Scope"},
    {"id": "14dad69e-099b-42c9-810b-d002981feec1", "type": "Scope"},
    {"id": "7427e0e9-2fba-42fe-b0c0-848c9e6a8182", "type": "Scope"}]}]'
audience=api://AzureADTokenExchange
default_role=00000000-0000-0000-0000-000000000000
# On applications that this script made. --remove deletes no other.
made_by_us=made-by-entrada-setup
max_credentials=20
attempts=12

public_url='' resource_group='' cluster='' subscription='' namespace=entrada service_account=entrada name=entrada
client_id='' redis='' redis_group='' output=env retry_wait=10 dry_run='' remove=''
assign=()
changes=0
consent_missing=''

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup.sh: $*"; exit 1; }
wrong_usage() { say "setup.sh: $* (--help lists the arguments)"; exit 2; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Arguments.

guid='^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$'

read_arguments() {
    while [ $# -gt 0 ]; do
        case "$1" in
            --help | -h) usage; exit 0 ;;
            --dry-run) dry_run=1; shift; continue ;;
            --remove) remove=1; shift; continue ;;
        esac
        if [ $# -lt 2 ] || [ -z "$2" ] || [[ "$2" == -* ]]; then wrong_usage "$1 needs a value, or is unknown"; fi
        case "$1" in
            --public-url) public_url=${2%/} ;;
            --resource-group) resource_group=$2 ;;
            --cluster) cluster=$2 ;;
            --subscription) subscription=$2 ;;
            --namespace) namespace=$2 ;;
            --service-account) service_account=$2 ;;
            --name) name=$2 ;;
            --client-id) client_id=$2 ;;
            --assign) assign+=("$2") ;;
            --redis) redis=$2 ;;
            --redis-resource-group) redis_group=$2 ;;
            --output) output=$2 ;;
            --retry-wait) retry_wait=$2 ;;
            *) wrong_usage "unknown argument: $1" ;;
        esac
        shift 2
    done
}

check_arguments() {
    local label='[a-z0-9]([-a-z0-9]*[a-z0-9])?' id
    if [ -z "$resource_group" ]; then wrong_usage "--resource-group is missing"; fi
    if [ -z "$cluster" ]; then wrong_usage "--cluster is missing"; fi
    if [ -z "$remove" ]; then
        # As Entrada sends it to Entra, which compares letter by letter.
        if ! [[ "$public_url" =~ ^https://[A-Za-z0-9.-]+(:[0-9]+)?$ ]] || [[ "$public_url" == *:443 ]] ||
            [ "$public_url" != "$(tr '[:upper:]' '[:lower:]' <<<"$public_url")" ]; then
            wrong_usage "--public-url must be https:// and a host in small letters, without a path and without :443: https://k8s.example.com"
        fi
    fi
    [[ "$namespace" =~ ^$label$ ]] || wrong_usage "--namespace is no name of a namespace: $namespace"
    [[ "$service_account" =~ ^$label(\.$label)*$ ]] ||
        wrong_usage "--service-account is no name of a service account: $service_account"
    for id in ${client_id:+"$client_id"} ${assign[@]+"${assign[@]}"}; do
        [[ "$id" =~ $guid ]] || wrong_usage "this must be an id like 11111111-2222-3333-4444-555555555555: $id"
    done
    case "$output" in env | helm | json) ;; *) wrong_usage "--output is env, helm or json, not $output" ;; esac
    [[ "$retry_wait" =~ ^[0-9]+$ ]] || wrong_usage "--retry-wait is a number of seconds, not $retry_wait"
    redis_group=${redis_group:-$resource_group}
}

# Asking and changing.

az_error() { grep -v '^WARNING' "$scratch/error" | tr -s '\r\n' '  ' | tr -d '[:cntrl:]' | cut -c 1-600; }
denied() { grep -qE 'Authorization_RequestDenied|AuthorizationFailed|Insufficient privileges' "$scratch/error"; }
# What was just made is not yet known to every server of Entra, or two changes met.
passing() {
    local unknown='Request_ResourceNotFound|does not reference a valid application|Not a valid reference update'
    grep -qE "$unknown|Directory_ConcurrencyViolation|TooManyRequests|Service ?Unavailable" "$scratch/error"
}

run_az() { az "$@" --output json 2>"$scratch/error" </dev/null; }
ask_graph() { run_az rest --method get --url "$graph/v1.0$1"; }
# ask_list PATH FILTER: the objects below PATH for which the OData filter holds.
ask_list() {
    local filter
    filter=$(jq -rn --arg filter "$2" '$filter | @uri')
    all_pages "$1?\$filter=$filter" || fail "Could not list $1: $(az_error)"
}
all_pages() {
    local url="$graph/v1.0$1" page all=''
    while [ -n "$url" ]; do
        page=$(run_az rest --method get --url "$url") || return 1
        all+=$(jq -c '.value[]' <<<"$page")$'\n'
        url=$(jq -r '."@odata.nextLink" // ""' <<<"$page")
    done
    jq -cs . <<<"$all"
}

# What belongs to an object that may have been made a moment ago. If Entra does not find it yet, nothing belongs to it.
ask_below() {
    if [[ "$1" == *'<'* ]]; then echo '[]'; return; fi # a dry run, and the object does not exist
    if all_pages "$1"; then return; fi
    passing || fail "Could not read $1: $(az_error)"
    echo '[]'
}

# As one would type it. (printf %q makes JSON unreadable.)
quoted() {
    local quote="'" escaped="'\\''"
    if [[ "$1" =~ ^[A-Za-z0-9_./:=@,+-]+$ ]]; then printf '%s' "$1"; else printf "'%s'" "${1//$quote/$escaped}"; fi
}

# change WHAT ARG…: prints the az command and, unless this is a dry run, runs it. Its answer is then in $answer.
change() {
    local what=$1 word attempt
    shift
    changes=$((changes + 1))
    { printf '# %s\naz' "$what"; for word in "$@"; do printf ' '; quoted "$word"; done; printf '\n'; } >&3
    answer='{}'
    if [ -n "$dry_run" ]; then return; fi
    for ((attempt = 1; attempt <= attempts; attempt++)); do
        if answer=$(run_az "$@"); then return; fi
        if ! passing || [ "$attempt" -eq "$attempts" ]; then return 1; fi
        say "Entra does not know yet what was just made: attempt $attempt of $attempts failed, next in $retry_wait s"
        sleep "$retry_wait"
    done
}
change_graph() { # WHAT METHOD PATH BODY
    change "$1" rest --method "$2" --url "$graph/v1.0$3" --headers Content-Type=application/json --body "$4"
}
made_or_fail() { # after a change that failed: ROLE is what the person may lack
    if denied; then fail "You may not do this; $1 may. Azure says: $(az_error)"; fi
    fail "That failed; when the cause is gone, run this again, it goes on from here. Azure says: $(az_error)"
}

# What is there.

look_around() {
    local account default_tenant cloud tool
    for tool in az jq; do
        command -v "$tool" >/dev/null || fail "$tool is needed and was not found; install it"
    done
    account=$(run_az account show ${subscription:+--subscription "$subscription"}) ||
        fail "az is not signed in, or knows no such subscription; run az login. az says: $(az_error)"
    tenant=$(jq -r .tenantId <<<"$account")
    subscription=$(jq -r .id <<<"$account")
    default_tenant=$(run_az account show | jq -r .tenantId)
    # Graph is asked with the default subscription's login, whatever --subscription says.
    [ "$default_tenant" = "$tenant" ] ||
        fail "The subscription is of another tenant than az's default; run: az account set --subscription $subscription"
    cloud=$(run_az cloud show) || fail "az cloud show failed: $(az_error)"
    graph=$(jq -r '.endpoints.microsoftGraphResourceId | rtrimstr("/")' <<<"$cloud")
    login=$(jq -r '.endpoints.activeDirectory | rtrimstr("/")' <<<"$cloud")
    subject="system:serviceaccount:$namespace:$service_account"
    # By this, --remove finds the credential of a cluster that is no more.
    place="Entrada: $namespace/$service_account in $subscription/$resource_group/$cluster"
}

# The application, or {} where there is none. An application that this script did not make has to be named by its id.
find_application() {
    local found ids
    if [ -n "$client_id" ]; then
        app=$(ask_graph "/applications(appId='$client_id')") ||
            fail "Could not read the application $client_id in tenant $tenant: $(az_error)"
        return
    fi
    found=$(ask_list /applications "displayName eq '${name//\'/\'\'}'")
    ids=$(jq -r 'map(.appId) | join(", ")' <<<"$found")
    case $(jq length <<<"$found") in
        0) app='{}' ;;
        1) app=$(jq -c '.[0]' <<<"$found")
            is_ours || fail "An application of that name exists that this script did not make ($ids): name it with" \
                "--client-id to have it used, or choose another --name" ;;
        *) fail "Several applications have that name ($ids): choose one with --client-id" ;;
    esac
}
is_ours() { jq -e --arg tag "$made_by_us" '(.tags // []) | index($tag)' <<<"$app" >/dev/null; }
exists() { [ "$app" != '{}' ]; }
read_ids() {
    app_id=$(jq -r '.id // "<application>"' <<<"$app")
    client_id=$(jq -r '.appId // "<client id>"' <<<"$app")
}
principal_of() { ask_list /servicePrincipals "appId eq '$1'" | jq -c '.[0] // {}'; }

# Making.

read_cluster() {
    which=(--resource-group "$resource_group" --name "$cluster" --subscription "$subscription")
    aks=$(run_az aks show "${which[@]}") || fail "Could not read the cluster $cluster in $resource_group: $(az_error)"
    jq -e .aadProfile <<<"$aks" >/dev/null ||
        fail "The cluster $cluster takes no Entra users; enable that first: az aks update --enable-aad"
    [ "$(jq -r '.aadProfile | .tenantId // .tenantID // ""' <<<"$aks")" = "$tenant" ] ||
        fail "The cluster $cluster takes users of another tenant than $tenant; sign in to that one: az login --tenant"
}

ensure_cluster() {
    local flags=()
    read_cluster
    jq -e .oidcIssuerProfile.enabled <<<"$aks" >/dev/null || flags+=(--enable-oidc-issuer)
    jq -e .securityProfile.workloadIdentity.enabled <<<"$aks" >/dev/null || flags+=(--enable-workload-identity)
    if [ ${#flags[@]} -gt 0 ]; then
        change "The cluster gets what workload identity needs; its API server may restart" \
            aks update "${which[@]}" "${flags[@]}" || made_or_fail "Azure Kubernetes Service Contributor on the cluster"
        if [ -z "$dry_run" ]; then read_cluster; fi
    fi
    # Verbatim: a missing slash at the end, and Entra would not know the pod.
    issuer=$(jq -r '.oidcIssuerProfile.issuerUrl // "<issuer of the cluster>"' <<<"$aks")
    if [ -z "$dry_run" ] && [[ "$issuer" != https://* ]]; then
        fail "The cluster has no OIDC issuer yet; run this again when its update is done"
    fi
}

# What an application lacks, as the body of a PATCH; of {}, all that a new one needs. Keeps what others have added.
lacking() {
    jq -c --arg redirect "$public_url/callback" --arg logout "$public_url/logout/frontchannel" \
        --argjson permissions "$permissions" '
        (.web.redirectUris // []) as $uris
        | (.optionalClaims.idToken // []) as $claims
        | (["login_hint", "sid"] - [$claims[].name] | map({name: ., essential: false})) as $new_claims
        | (.requiredResourceAccess // []) as $access
        | (reduce $permissions[] as $want ($access;
            if any(.[]; .resourceAppId == $want.resourceAppId)
            then map(if .resourceAppId == $want.resourceAppId
                then .resourceAccess as $have
                    | .resourceAccess += [$want.resourceAccess[] | select(.id as $id | any($have[]; .id == $id) | not)]
                else . end)
            else . + [$want] end)) as $wanted_access
        | (if ($uris | index([$redirect])) and .web.logoutUrl == $logout then {}
            else {web: {redirectUris: ($uris + ([$redirect] - $uris)), logoutUrl: $logout}} end)
        + (if $new_claims == [] then {}
            else {optionalClaims: ((.optionalClaims // {}) + {idToken: ($claims + $new_claims)})} end)
        + (if $wanted_access == $access then {} else {requiredResourceAccess: $wanted_access} end)
        + (if .isFallbackPublicClient then {isFallbackPublicClient: false} else {} end)' <<<"$1"
}

ensure_application() {
    local patch body
    if exists && [ "$(jq -r .signInAudience <<<"$app")" != AzureADMyOrg ]; then
        fail "The application lets in users of other tenants; Entrada needs one of its own (another --name)"
    fi
    patch=$(lacking "$app")
    if ! exists; then
        body=$(jq -c --arg name "$name" --arg tag "$made_by_us" \
            '{displayName: $name, signInAudience: "AzureADMyOrg", tags: [$tag]} + .' <<<"$patch")
        change_graph "The application that people sign in to" post /applications "$body" ||
            made_or_fail "Application Developer, Cloud Application Administrator"
        app=$answer
    fi
    read_ids
    if [ "$patch" != '{}' ] && [ -z "${body:-}" ]; then
        change_graph "The application lacks this" patch "/applications/$app_id" "$patch" ||
            made_or_fail "an owner of the application, Cloud Application Administrator"
    fi
}

ensure_principal() {
    local body
    principal='{}'
    if exists; then principal=$(principal_of "$client_id"); fi
    if [ "$principal" = '{}' ]; then
        # The tag has the portal list it among the enterprise applications.
        body=$(jq -cn --arg id "$client_id" '{appId: $id, appRoleAssignmentRequired: true,
            tags: ["WindowsAzureActiveDirectoryIntegratedApp"]}')
        change_graph "Its service principal; only who is assigned may sign in" post /servicePrincipals "$body" ||
            made_or_fail "an owner of the application, Cloud Application Administrator"
        principal=$answer
    elif ! jq -e .appRoleAssignmentRequired <<<"$principal" >/dev/null; then
        change_graph "Only who is assigned may sign in" patch "/servicePrincipals/$(jq -r .id <<<"$principal")" \
            '{"appRoleAssignmentRequired":true}' ||
            made_or_fail "an owner of the application, Cloud Application Administrator"
    fi
    principal_id=$(jq -r '.id // "<service principal>"' <<<"$principal")
}

ensure_credential() {
    local all mine body number path="/applications/$app_id/federatedIdentityCredentials"
    all=$(ask_below "$path")
    mine=$(jq -c --arg issuer "$issuer" --arg subject "$subject" \
        'map(select(.issuer == $issuer and .subject == $subject)) | .[0] // {}' <<<"$all")
    if [ "$mine" != '{}' ]; then
        if [ "$(jq -c .audiences <<<"$mine")" = "[\"$audience\"]" ]; then return; fi
        change_graph "The audience that the pod's token has" patch "$path/$(jq -r .id <<<"$mine")" \
            "{\"audiences\":[\"$audience\"]}" || made_or_fail "an owner of the application"
        return
    fi
    [ "$(jq length <<<"$all")" -lt "$max_credentials" ] ||
        fail "The application has $max_credentials federated credentials, which is as many as Entra takes; delete one"
    # One name for each issuer and subject, in the characters that Entra takes.
    number=$(printf '%s %s' "$issuer" "$subject" | cksum | cut -d ' ' -f 1)
    if [[ "$issuer" == '<'* ]]; then number='<number>'; fi
    body=$(jq -cn --arg issuer "$issuer" --arg subject "$subject" --arg audience "$audience" --arg place "$place" \
        --arg name "entrada-$number" \
        '{name: $name, issuer: $issuer, subject: $subject, audiences: [$audience], description: $place}')
    change_graph "The pod proves to be the application by the token of its service account" post "$path" "$body" ||
        made_or_fail "an owner of the application, Cloud Application Administrator"
}

# ensure_consent RESOURCE_APP SCOPES: for all users, so that nobody is asked.
ensure_consent() {
    local resource resource_id grant scope
    resource=$(principal_of "$1")
    if [ "$resource" = '{}' ]; then
        change_graph "The tenant has never used this application of Microsoft" post /servicePrincipals \
            "{\"appId\":\"$1\"}" || { consent_failed; return; } # consenting at that address makes it, too
        resource=$answer
    fi
    resource_id=$(jq -r '.id // "<AKS server>"' <<<"$resource")
    grant='{}'
    if [[ "$principal_id" != '<'* ]]; then
        grant=$(ask_list /oauth2PermissionGrants "clientId eq '$principal_id'" | jq -c --arg resource "$resource_id" \
            'map(select(.resourceId == $resource and .consentType == "AllPrincipals")) | .[0] // {}')
    fi
    scope=$(jq -r --arg wanted "$2" '((.scope // "") | [splits(" +")] - [""]) as $have
        | $have + (($wanted | split(" ")) - $have) | join(" ")' <<<"$grant")
    if [ "$grant" = '{}' ]; then
        change_graph "Consent for everybody: $2" post /oauth2PermissionGrants "$(jq -cn --arg client "$principal_id" \
            --arg resource "$resource_id" --arg scope "$scope" \
            '{clientId: $client, consentType: "AllPrincipals", resourceId: $resource, scope: $scope}')" ||
            consent_failed
    elif [ "$scope" != "$(jq -r '.scope | [splits(" +")] - [""] | join(" ")' <<<"$grant")" ]; then
        change_graph "Consent for everybody: $2" patch "/oauth2PermissionGrants/$(jq -r .id <<<"$grant")" \
            "$(jq -cn --arg scope "$scope" '{scope: $scope}')" || consent_failed
    fi
}
consent_failed() {
    denied || made_or_fail ''
    consent_missing=1
}

check_assigned() {
    local id
    for id in ${assign[@]+"${assign[@]}"}; do
        run_az rest --method get --url "$graph/v1.0/directoryObjects/$id" >/dev/null ||
            fail "--assign $id: no user or group of this tenant has that object id. Azure says: $(az_error)"
    done
}
ensure_assigned() {
    local id there
    there=$(ask_below "/servicePrincipals/$principal_id/appRoleAssignedTo")
    there=$(jq -c 'map(.principalId | ascii_downcase)' <<<"$there")
    for id in ${assign[@]+"${assign[@]}"}; do
        if jq -e --arg id "$id" 'index($id | ascii_downcase)' <<<"$there" >/dev/null; then continue; fi
        change_graph "May sign in" post "/servicePrincipals/$principal_id/appRoleAssignedTo" "$(jq -cn --arg id "$id" \
            --arg resource "$principal_id" --arg role "$default_role" \
            '{principalId: $id, resourceId: $resource, appRoleId: $role}')" ||
            made_or_fail "an owner of the application, Cloud Application Administrator"
    done
    if [ "$there" = '[]' ] && [ ${#assign[@]} -eq 0 ]; then
        say "Nobody is assigned yet, so nobody can sign in: give --assign, or assign people and groups in the portal."
    fi
}

redis_access() { # VERB ARG…
    local verb=$1
    shift
    redis_command=(redisenterprise database access-policy-assignment "$verb" --cluster-name "$redis"
        --database-name default --resource-group "$redis_group" --subscription "$subscription" "$@")
}
list_redis_access() {
    redis_access list
    run_az "${redis_command[@]}" ||
        fail "Could not read who may use the Redis $redis in $redis_group (az extension add --name redisenterprise," \
            "if az does not know the command): $(az_error)"
}
ensure_redis() {
    local there
    there=$(list_redis_access)
    if jq -e --arg id "$principal_id" 'any(.[]; .user.objectId == $id)' <<<"$there" >/dev/null; then return; fi
    # Letters and digits only: that is what every version of the extension takes.
    redis_access create --access-policy-assignment-name "entrada${principal_id//-/}" \
        --access-policy-name default --object-id "$principal_id"
    change "Entrada may use the Redis" "${redis_command[@]}" || made_or_fail "Contributor on the Redis"
}

# Taking back.

take_back() {
    local all id others principal there path
    if ! exists; then say "Nothing to take back: tenant $tenant has no application named $name."; return; fi
    read_ids
    path="/applications/$app_id/federatedIdentityCredentials"
    if [ -n "$redis" ]; then
        principal=$(principal_of "$client_id")
        there=$(list_redis_access)
        for id in $(jq -r --argjson principal "$principal" \
            '.[] | select(.user.objectId == $principal.id) | .name' <<<"$there"); do
            redis_access delete --access-policy-assignment-name "$id" --yes
            change "Entrada may no longer use the Redis" "${redis_command[@]}" ||
                made_or_fail "Contributor on the Redis"
        done
    fi
    all=$(ask_below "$path")
    others=$(jq --arg place "$place" 'map(select(.description != $place)) | length' <<<"$all")
    if is_ours && [ "$others" -eq 0 ]; then
        change "The application, with its service principal, consents, assignments and credentials" \
            rest --method delete --url "$graph/v1.0/applications/$app_id" || made_or_fail "an owner of the application"
        say "Entra keeps a deleted application for 30 days. The cluster keeps its OIDC issuer and workload identity."
        return
    fi
    for id in $(jq -r --arg place "$place" '.[] | select(.description == $place) | .id' <<<"$all"); do
        change "The credential of this cluster's pod" rest --method delete --url "$graph/v1.0$path/$id" ||
            made_or_fail "an owner of the application"
    done
    if is_ours; then say "The application $client_id stays: $others more federated credentials use it."
    else say "The application $client_id stays, with its URLs and permissions: this script did not make it."; fi
}

# Main.

print_values() {
    case "$output" in
        env) printf '%s=%s\n' ENTRADA_PUBLIC_URL "$public_url" AZURE_CLIENT_ID "$client_id" AZURE_TENANT_ID "$tenant" ;;
        helm) printf 'publicUrl: "%s"\nentra:\n  clientId: "%s"\n  tenantId: "%s"\n' \
            "$public_url" "$client_id" "$tenant" ;;
        json) jq -n --arg url "$public_url" --arg client "$client_id" --arg tenant "$tenant" --arg issuer "$issuer" \
            --arg subject "$subject" --arg principal "$principal_id" \
            '{publicUrl: $url, clientId: $client, tenantId: $tenant, issuer: $issuer, subject: $subject,
              servicePrincipalId: $principal}' ;;
    esac
}

set_up() {
    check_assigned
    ensure_cluster
    ensure_application
    ensure_principal
    ensure_credential
    ensure_consent "$graph_server" "openid profile offline_access"
    ensure_consent "$aks_server" user.read
    ensure_assigned
    if [ -n "$redis" ]; then ensure_redis; fi
}

read_arguments "$@"
check_arguments
# The commands are what a dry run is for; otherwise the values are.
if [ -n "$dry_run" ]; then exec 3>&1; else exec 3>&2; fi
look_around
find_application
if [ -n "$remove" ]; then take_back; else set_up; fi

if [ "$changes" -eq 0 ]; then say "Nothing to change."
elif [ -n "$dry_run" ]; then say "$changes changes would be made; none was."
else say "$changes changes made."; fi
if [ -n "$dry_run" ] || [ -n "$remove" ]; then exit 0; fi
print_values
if [ -n "$consent_missing" ]; then
    say "You may not consent for the tenant. A Cloud Application Administrator can, at this address; the page that it" \
        "ends on may say that sign-in failed, which means nothing here. Then run this again."
    say "$login/$tenant/adminconsent?client_id=$client_id"
    exit 3
fi
