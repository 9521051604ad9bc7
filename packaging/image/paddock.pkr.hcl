# Bakes images for a pool: packer init . && packer build -var version=0.1.0 .
# One of them alone: packer build -only 'amazon-ebs.ubuntu-arm64' -var version=0.1.0 .

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0"
    }
  }
}

variable "version" {
  type        = string
  description = "The release of Paddock to bake in, such as 0.1.0"
}

variable "runner_version" {
  type        = string
  default     = "latest"
  description = "The version of GitHub's runner; GitHub turns away those that are older than about a month"
}

variable "releases" {
  type        = string
  default     = "https://github.com/paddock-runners/paddock/releases/download"
  description = "Where releases of Paddock are; a fork has its own"
}

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "subnet_id" {
  type        = string
  default     = null
  description = "Where to bake; the default VPC's subnet if there is one"
}

locals {
  ubuntu = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-%s-server-*"
  amazon = "al2023-ami-2023.*-kernel-*-%s"
  name   = "paddock-${var.version}-${formatdate("YYYYMMDD-hhmm", timestamp())}"
  tags   = { "paddock:version" = var.version }
}

source "amazon-ebs" "ubuntu-x86_64" {
  ami_name      = "${local.name}-ubuntu-x86_64"
  instance_type = "c7i.large"
  region        = var.region
  subnet_id     = var.subnet_id
  ssh_username  = "ubuntu"
  tags          = local.tags
  source_ami_filter {
    filters     = { name = format(local.ubuntu, "amd64"), state = "available" }
    owners      = ["099720109477"]
    most_recent = true
  }
  metadata_options {
    http_tokens = "required"
  }
}

source "amazon-ebs" "ubuntu-arm64" {
  ami_name      = "${local.name}-ubuntu-arm64"
  instance_type = "c7g.large"
  region        = var.region
  subnet_id     = var.subnet_id
  ssh_username  = "ubuntu"
  tags          = local.tags
  source_ami_filter {
    filters     = { name = format(local.ubuntu, "arm64"), state = "available" }
    owners      = ["099720109477"]
    most_recent = true
  }
  metadata_options {
    http_tokens = "required"
  }
}

source "amazon-ebs" "al2023-x86_64" {
  ami_name      = "${local.name}-al2023-x86_64"
  instance_type = "c7i.large"
  region        = var.region
  subnet_id     = var.subnet_id
  ssh_username  = "ec2-user"
  tags          = local.tags
  source_ami_filter {
    filters     = { name = format(local.amazon, "x86_64"), state = "available" }
    owners      = ["amazon"]
    most_recent = true
  }
  metadata_options {
    http_tokens = "required"
  }
}

source "amazon-ebs" "al2023-arm64" {
  ami_name      = "${local.name}-al2023-arm64"
  instance_type = "c7g.large"
  region        = var.region
  subnet_id     = var.subnet_id
  ssh_username  = "ec2-user"
  tags          = local.tags
  source_ami_filter {
    filters     = { name = format(local.amazon, "arm64"), state = "available" }
    owners      = ["amazon"]
    most_recent = true
  }
  metadata_options {
    http_tokens = "required"
  }
}

build {
  sources = [
    "source.amazon-ebs.ubuntu-x86_64",
    "source.amazon-ebs.ubuntu-arm64",
    "source.amazon-ebs.al2023-x86_64",
    "source.amazon-ebs.al2023-arm64",
  ]

  # The machine is still being set up when SSH answers.
  provisioner "shell" {
    inline = ["cloud-init status --wait"]
  }

  provisioner "shell" {
    script          = "${path.root}/install.sh"
    execute_command = "sudo PADDOCK_RELEASES='${var.releases}' {{ .Path }} ${var.version} ${var.runner_version}"
  }

  # What is the image's own must be made anew on each machine.
  provisioner "shell" {
    inline = [
      "sudo cloud-init clean --logs",
      "sudo truncate --size 0 /etc/machine-id",
    ]
  }
}
