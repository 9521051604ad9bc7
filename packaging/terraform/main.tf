# What Paddock needs of an account before its first refresh: the machines' role and instance
# profile, and two roles that GitHub's workflows take by OIDC. Refresh makes the rest.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

variable "pool" {
  description = "The pool's name; owner and name of the repository with a hyphen, unless pool-name says otherwise"
  type        = string
}

variable "repository" {
  description = "The repository whose workflows use the pool, as GitHub's tokens name it: owner/name, or owner@number/name@number since July 2026; with * in the name's place for all of an owner's"
  type        = string
}

variable "branch" {
  description = "The branch whose workflows may refresh, inspect and destroy the pool"
  type        = string
  default     = "main"
}

variable "create_oidc_provider" {
  description = "An account has one identity provider for GitHub; false if it is there already"
  type        = bool
  default     = true
}

variable "systems_manager" {
  description = "Lets machines take commands of Systems Manager, which controller agent-status needs"
  type        = bool
  default     = false
}

variable "create_documents" {
  description = "An account and region have one document of each name, Paddock-Agent…; false if they are there already"
  type        = bool
  default     = true
}

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  iam      = "${path.module}/../iam"
  workflow = toset(["controller-provision", "controller-release"])
  operator = setsubtract(
    toset([for file in fileset(local.iam, "controller-*.json") : trimsuffix(file, ".json")]),
    local.workflow
  )

  # The documents with their places filled. Terraform's own templates would trip over
  # "$${ec2:SourceInstanceARN}", which IAM fills.
  filled = {
    for file in fileset(local.iam, "*.json") : trimsuffix(file, ".json") =>
    replace(replace(replace(replace(replace(replace(
      file("${local.iam}/${file}"),
      "{partition}", data.aws_partition.this.partition),
      "{region}", data.aws_region.this.name),
      "{account}", data.aws_caller_identity.this.account_id),
      "{pool}", var.pool),
      "{repository}", var.repository),
    "{branch}", var.branch)
  }
}

resource "aws_iam_openid_connect_provider" "github" {
  count          = var.create_oidc_provider ? 1 : 0
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "machine" {
  name_prefix        = "paddock-machine-"
  assume_role_policy = local.filled["trust-machine"]
}

resource "aws_iam_role_policy" "machine" {
  name   = "machine"
  role   = aws_iam_role.machine.id
  policy = local.filled["machine"]
}

resource "aws_iam_role_policy" "machine_ssm" {
  count  = var.systems_manager ? 1 : 0
  name   = "machine-ssm"
  role   = aws_iam_role.machine.id
  policy = local.filled["machine-ssm"]
}

resource "aws_ssm_document" "paddock" {
  for_each      = var.create_documents ? fileset("${path.module}/../ssm", "*.json") : []
  name          = trimsuffix(each.key, ".json")
  document_type = "Command"
  content       = file("${path.module}/../ssm/${each.key}")
}

resource "aws_iam_instance_profile" "machine" {
  name = "paddock-${var.pool}"
  role = aws_iam_role.machine.name
}

resource "aws_iam_role" "workflow" {
  name_prefix        = "paddock-workflow-"
  assume_role_policy = local.filled["trust-workflow"]
  depends_on         = [aws_iam_openid_connect_provider.github]
}

resource "aws_iam_role" "operator" {
  name_prefix        = "paddock-operator-"
  assume_role_policy = local.filled["trust-operator"]
  depends_on         = [aws_iam_openid_connect_provider.github]
}

resource "aws_iam_policy" "controller" {
  for_each    = setunion(local.workflow, local.operator)
  name_prefix = "paddock-${each.key}-"
  policy      = replace(local.filled[each.key], "{machine-role}", aws_iam_role.machine.arn)
}

resource "aws_iam_role_policy_attachment" "workflow" {
  for_each   = local.workflow
  role       = aws_iam_role.workflow.name
  policy_arn = aws_iam_policy.controller[each.key].arn
}

resource "aws_iam_role_policy_attachment" "operator" {
  for_each   = local.operator
  role       = aws_iam_role.operator.name
  policy_arn = aws_iam_policy.controller[each.key].arn
}

output "workflow_role" {
  description = "role-to-assume of workflows that provision and release"
  value       = aws_iam_role.workflow.arn
}

output "operator_role" {
  description = "role-to-assume of the scheduled workflow that refreshes"
  value       = aws_iam_role.operator.arn
}

output "instance_profile" {
  description = "The input iam-instance-profile of refresh"
  value       = aws_iam_instance_profile.machine.name
}
