// Portcullis on Container Apps: the gateway behind the environment's ingress, and the app that it guards as a sidecar,
// which the gateway alone reaches, on loopback. The environment, the identity and the vault are there already;
// docs/guides/close-a-logic-app.md has the commands that make them.

@description('Where the app runs.')
param location string = resourceGroup().location

@description('The name of the container app, and of its gateway in the logs.')
param name string = 'portcullis'

@description('The Container Apps environment, in this resource group.')
param environmentName string

@description('The user-assigned identity by which the gateway calls backends and the platform reads the secrets below. The policy names it by its client ID.')
param identityName string

@description('The vault that holds the two secrets, in this resource group, with roles (RBAC) in place of access policies.')
param vaultName string

@description('The image of the gateway. Better by digest than by tag.')
param gatewayImage string

@description('The image of the app behind the gateway; empty where all backends are elsewhere.')
param appImage string = ''

@description('Environment variables of the app. It has to listen on 127.0.0.1 alone, at the port that the policy names.')
param appEnvironment array = [
  { name: 'ASPNETCORE_URLS', value: 'http://127.0.0.1:7071' }
]

@description('The registry that both images are pulled from by the identity, which needs AcrPull there; empty for a public one.')
param registryServer string = ''

@description('The secret in the vault that holds the sealing keys.')
param sealSecretName string = 'portcullis-seal'

@description('The secret in the vault that holds the key of fingerprints.')
param fingerprintSecretName string = 'portcullis-fingerprint'

@description('The networks that the ingress lets in (CIDR); empty for all. For a private beginning, while a route only reports.')
param callerNetworks array = []

@description('How many replicas there are at least. Two, so that one can be restarted.')
@minValue(1)
param minReplicas int = 2

@description('How many replicas there are at most.')
param maxReplicas int = 10

var gatewayConfig = loadTextContent('portcullis/gateway.yaml')
var policy = loadTextContent('policies/contoso.yaml')

// Key Vault Secrets User.
var secretsUser = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '4633458b-17de-408a-b874-0445c86b69e6')

resource environment 'Microsoft.App/managedEnvironments@2025-07-01' existing = {
  name: environmentName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource sealSecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' existing = {
  parent: vault
  name: sealSecretName
}

resource fingerprintSecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' existing = {
  parent: vault
  name: fingerprintSecretName
}

// The two secrets and no more: the app beside the gateway can use the identity, too.
resource readSeal 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(sealSecret.id, identity.id, secretsUser)
  scope: sealSecret
  properties: {
    roleDefinitionId: secretsUser
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource readFingerprint 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(fingerprintSecret.id, identity.id, secretsUser)
  scope: fingerprintSecret
  properties: {
    roleDefinitionId: secretsUser
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

var gateway = {
  name: 'gateway'
  image: gatewayImage
  resources: {
    cpu: json('0.5')
    memory: '1Gi'
  }
  env: [
    // Secrets belong to the app and not to a revision: a change of files alone would start nothing anew.
    { name: 'CONFIGURATION', value: uniqueString(gatewayConfig, policy) }
    { name: 'OTEL_SERVICE_NAME', value: name }
  ]
  volumeMounts: [
    { volumeName: 'configuration', mountPath: '/etc/portcullis' }
    { volumeName: 'policies', mountPath: '/etc/policies' }
    { volumeName: 'keys', mountPath: '/secrets' }
  ]
  // Plain HTTP at the admin address. The platform's own probes would be TCP at the target port, or none.
  probes: [
    {
      type: 'Startup'
      httpGet: { path: '/livez', port: 9901, scheme: 'HTTP' }
      periodSeconds: 3
      failureThreshold: 10
    }
    {
      type: 'Liveness'
      httpGet: { path: '/livez', port: 9901, scheme: 'HTTP' }
      periodSeconds: 10
      timeoutSeconds: 2
      failureThreshold: 3
    }
    {
      type: 'Readiness'
      httpGet: { path: '/readyz', port: 9901, scheme: 'HTTP' }
      periodSeconds: 2
      timeoutSeconds: 2
      failureThreshold: 2
    }
  ]
}

// No probe: they come from outside, and it listens on loopback. The gateway answers 502 or 504 until it does.
var app = {
  name: 'app'
  image: appImage
  resources: {
    cpu: json('0.5')
    memory: '1Gi'
  }
  env: appEnvironment
}

resource containerApp 'Microsoft.App/containerApps@2025-07-01' = {
  name: name
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    environmentId: environment.id
    configuration: {
      // The revision before serves until the next one is ready.
      activeRevisionsMode: 'Single'
      ingress: {
        external: true
        targetPort: 8080
        transport: 'auto'
        allowInsecure: false
        clientCertificateMode: 'ignore'
        ipSecurityRestrictions: [for (network, index) in callerNetworks: {
          name: 'caller-${index}'
          ipAddressRange: network
          action: 'Allow'
        }]
      }
      registries: empty(registryServer) ? [] : [
        { server: registryServer, identity: identity.id }
      ]
      secrets: [
        // No secrets, but the only files that can be mounted without a storage account.
        { name: 'gateway-yaml', value: gatewayConfig }
        { name: 'contoso-yaml', value: policy }
        { name: 'seal-keys', keyVaultUrl: '${vault.properties.vaultUri}secrets/${sealSecretName}', identity: identity.id }
        { name: 'fingerprint-key', keyVaultUrl: '${vault.properties.vaultUri}secrets/${fingerprintSecretName}', identity: identity.id }
      ]
    }
    template: {
      // Longer than `drain.delay` and `drain.timeout` of gateway.yaml together.
      terminationGracePeriodSeconds: 60
      containers: empty(appImage) ? [gateway] : [gateway, app]
      volumes: [
        {
          name: 'configuration'
          storageType: 'Secret'
          secrets: [
            { secretRef: 'gateway-yaml', path: 'gateway.yaml' }
          ]
        }
        {
          name: 'policies'
          storageType: 'Secret'
          secrets: [
            { secretRef: 'contoso-yaml', path: 'contoso.yaml' }
          ]
        }
        {
          name: 'keys'
          storageType: 'Secret'
          secrets: [
            { secretRef: 'seal-keys', path: 'seal.keys' }
            { secretRef: 'fingerprint-key', path: 'fingerprint.key' }
          ]
        }
      ]
      scale: {
        minReplicas: minReplicas
        maxReplicas: maxReplicas
        rules: [
          {
            name: 'requests'
            http: { metadata: { concurrentRequests: '100' } }
          }
        ]
      }
    }
  }
  dependsOn: [
    readSeal
    readFingerprint
  ]
}

@description('The host that callers use.')
output host string = containerApp.properties.configuration.ingress.fqdn
