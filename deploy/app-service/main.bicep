// Portcullis on App Service: the gateway is the main container, which alone gets callers, and the app that it guards a
// sidecar on loopback. The plan (Linux), the identity and the vault are there already.

@description('Where the app runs.')
param location string = resourceGroup().location

@description('The name of the site; callers use {name}.azurewebsites.net until a domain of your own is bound.')
param name string

@description('The App Service plan, Linux, in this resource group.')
param planName string

@description('The user-assigned identity by which the gateway calls backends, images are pulled and the settings below are read. It needs AcrPull, and Key Vault Secrets User for the two secrets.')
param identityName string

@description('The vault that holds the two secrets.')
param vaultName string

@description('The image of the gateway with its files: see the Dockerfile.')
param gatewayImage string

@description('The image of the app behind the gateway.')
param appImage string

@description('Where the app listens, on loopback alone.')
param appUrl string = 'http://127.0.0.1:7071'

@description('The secret in the vault that holds the sealing keys.')
param sealSecretName string = 'portcullis-seal'

@description('The secret in the vault that holds the key of fingerprints.')
param fingerprintSecretName string = 'portcullis-fingerprint'

resource plan 'Microsoft.Web/serverfarms@2024-11-01' existing = {
  name: planName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource site 'Microsoft.Web/sites@2024-11-01' = {
  name: name
  location: location
  kind: 'app,linux,container'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    siteConfig: {
      linuxFxVersion: 'sitecontainers'
      alwaysOn: true
      http20Enabled: true
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
      // No healthCheckPath: it would ask the port of callers, where the gateway tells nobody of its health.
      appSettings: [
        // Longer than `drain.delay` and `drain.timeout` of gateway.yaml together; the platform's own is 5 s, the most 120.
        { name: 'WEBSITES_CONTAINER_STOP_TIME_LIMIT', value: '60' }
        { name: 'PORTCULLIS_SEAL', value: '@Microsoft.KeyVault(SecretUri=${vault.properties.vaultUri}secrets/${sealSecretName})' }
        { name: 'PORTCULLIS_FINGERPRINT', value: '@Microsoft.KeyVault(SecretUri=${vault.properties.vaultUri}secrets/${fingerprintSecretName})' }
        { name: 'APP_URL', value: appUrl }
      ]
    }
  }
}

// The gateway gets all settings, the platform's among them that lead to the identity.
resource gateway 'Microsoft.Web/sites/sitecontainers@2024-11-01' = {
  parent: site
  name: 'gateway'
  properties: {
    image: gatewayImage
    isMain: true
    targetPort: '8080'
    authType: 'UserAssigned'
    userManagedIdentityClientId: identity.properties.clientId
    inheritAppSettingsAndConnectionStrings: true
  }
}

// The app gets none of them but the one named here: a value is the name of an app setting.
resource app 'Microsoft.Web/sites/sitecontainers@2024-11-01' = {
  parent: site
  name: 'app'
  properties: {
    image: appImage
    isMain: false
    targetPort: '7071'
    authType: 'UserAssigned'
    userManagedIdentityClientId: identity.properties.clientId
    inheritAppSettingsAndConnectionStrings: false
    environmentVariables: [
      { name: 'ASPNETCORE_URLS', value: 'APP_URL' }
    ]
  }
}

// The ways around the gateway that a password opens.
resource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: site
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource scm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: site
  name: 'scm'
  properties: {
    allow: false
  }
}

@description('The host that callers use.')
output host string = site.properties.defaultHostName
